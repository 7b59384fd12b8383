// Every input the fuzzer was given or has found, in every build.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/fuzz/cni_check.h"

namespace bpfnet::cni {
namespace {

TEST(CniCorpus, EveryInputHoldsAndSoDoItsPrefixes) {
  int inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BPFNET_CNI_CORPUS)) {
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string input = text.str();
    for (size_t length = 0; length <= input.size(); ++length)
      check_cni(std::string_view(input).substr(0, length));
    ++inputs;
  }
  EXPECT_GT(inputs, 0);
}

// What tests/runtimes/recorder kept of calls by containerd 1.6.20 and Podman 4.3.1.
NetConf captured(const char* name) {
  std::stringstream text;
  text << std::ifstream(std::string(BPFNET_CNI_CORPUS "/captured-") + name).rdbuf();
  auto conf = parse_conf(text.str());
  if (!conf) throw std::runtime_error(conf.error().message);
  return std::move(*conf);
}

TEST(CniCorpus, CapturedCallsMeanWhatTheRuntimesMeant) {
  // C20: capitals, an empty HostIP, and null where there are no search domains.
  const NetConf containerd = captured("containerd-1.6-add.json");
  EXPECT_EQ(containerd.host_ports, (std::vector<ipam::HostPort>{{18200, 8080, model::Protocol::kTcp, {}}}));
  EXPECT_EQ(containerd.dns, (ResultDns{{"10.96.0.53"}, "", {}, {"ndots:5"}}));
  EXPECT_FALSE(captured("containerd-1.6-second-del.json").prev_result) << "C11: the first DEL has used it up";

  const NetConf podman = captured("podman-4.3-add-ports.json");
  std::map<std::string, uint16_t> ports;  // five that follow each other are one range
  for (const ipam::HostPort& port : podman.host_ports) ports[port.to_string()] = port.count;
  EXPECT_EQ(ports, (std::map<std::string, uint16_t>{
                       {"TCP *:18300", 1}, {"TCP 127.0.0.1:18301", 1}, {"UDP *:19000-19004", 5}}));
  const NetConf second = captured("podman-4.3-del-second.json");
  ASSERT_TRUE(second.prev_result);
  EXPECT_EQ(second.prev_result->ips.at(0).address, Address::parse("10.250.0.1").value());
  EXPECT_EQ(second.ranges.size(), 1U);
}

}  // namespace
}  // namespace bpfnet::cni
