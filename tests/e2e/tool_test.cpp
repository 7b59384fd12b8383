// bpfnetctl on a node that carries traffic: every view for people and for programs.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

class Tool : public TwoNodes {
 protected:
  static std::string table(const std::vector<std::string>& args) {
    const Output output = node_a().ctl_text(args);
    EXPECT_EQ(output.status, 0) << output.err;
    return output.out;
  }
};

TEST_P(Tool, EveryViewIsATableAndJson) {
  ASSERT_TRUE(worked(ask(pod("client-a").netns(), "tcp", service(11))));
  for (const auto& view : std::vector<std::vector<std::string>>{{"status"},
                                                                {"endpoint", "list"},
                                                                {"service", "list"},
                                                                {"flow", "list"},
                                                                {"policy", "list"},
                                                                {"identity", "list"},
                                                                {"drops"},
                                                                {"map", "list"},
                                                                {"map", "dump", "endpoints"},
                                                                {"map", "dump", "flows"}}) {
    EXPECT_FALSE(table(view).empty()) << view.front();
    EXPECT_FALSE(node_a().ctl(view).empty()) << view.front();
  }
}

TEST_P(Tool, NamesPodsServicesAndBackends) {
  const std::string services = table({"service", "list"});
  EXPECT_NE(services.find("default/only-b"), std::string::npos) << services;
  EXPECT_NE(services.find(service(12).address.to_string()), std::string::npos) << services;
  EXPECT_NE(services.find(pod("web-b").ip(family()).to_string()), std::string::npos) << services;
  const std::string endpoints = table({"endpoint", "list"});
  EXPECT_NE(endpoints.find("default/web-a"), std::string::npos) << endpoints;
  EXPECT_EQ(endpoints.find("default/web-b"), std::string::npos) << "a pod of another node: " << endpoints;
}

TEST_P(Tool, FlowFiltersShowOneConnection) {
  cluster().add_pod(0, "lone");
  // From a port of its own: such a connection is translated packet by packet, with or without --sockets.
  auto client = TcpClient::connect(pod("lone").netns(), service(12), {.source_port = 41001});
  ASSERT_TRUE(worked(client));
  ASSERT_TRUE(worked(client->echo("x")));
  const std::string flows = table({"flow", "list", "--endpoint", "default/lone", "--proto", "tcp", "--state",
                                   "established", "--dst", service(12).address.to_string()});
  EXPECT_NE(flows.find(std::to_string(client->local().port)), std::string::npos) << flows;
  EXPECT_NE(flows.find(pod("web-b").ip(family()).to_string()), std::string::npos) << flows;
  EXPECT_EQ(std::ranges::count(flows, '\n'), 2) << "a heading and one flow: " << flows;
  cluster().remove_pod("lone");
}

TEST_P(Tool, WrongUseIsToldWithStatus2) {
  EXPECT_EQ(node_a().ctl_text({"flow", "list", "--proto", "carrier-pigeon"}).status, 2);
  EXPECT_EQ(node_a().ctl_text({"dance"}).status, 2);
  EXPECT_EQ(node_a().ctl_text({"map", "dump", "no-such-map"}).status, 1);
}

INSTANTIATE_TEST_SUITE_P(E2e, Tool, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
