// A delegated IPAM plugin: the real host-local of containernetworking-plugins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/unit/cni_fixture.h"

namespace bpfnet::cni::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class DelegateTest : public NodeTest {
 protected:
  void SetUp() override {
    NodeTest::SetUp();
    if (::access("/usr/lib/cni/host-local", X_OK) != 0) GTEST_SKIP() << "needs containernetworking-plugins";
  }

  json conf(const char* version = "1.1.0") {
    return {{"cniVersion", version},
            {"ipam",
             {{"type", "host-local"},
              {"dataDir", (directory_ / "host-local").string()},
              {"ranges", {{{{"subnet", "10.99.0.0/29"}}}, {{{"subnet", "fd00:99::/64"}}}}},
              {"routes", {{{"dst", "198.51.100.0/24"}}}}}}};
  }
  [[nodiscard]] int reserved() const {
    int count = 0;
    std::error_code none;
    for (const auto& file : std::filesystem::directory_iterator(directory_ / "host-local" / "pods", none)) {
      const std::string name = file.path().filename();
      if (name.starts_with("10.") || name.starts_with("fd00")) ++count;
    }
    return count;
  }
};

// host-local 1.1 does not speak 1.1.0: it is asked in 1.0.0.
TEST_F(DelegateTest, TheAddressesOfHostLocalAreUsedInEveryVersion) {
  for (const char* version : {"0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    const Pod pod;
    const PluginOutcome outcome = plugin("ADD", "c1", pod.path(), conf(version));
    ASSERT_EQ(outcome.exit_code, 0) << version << ": " << outcome.output;
    const ipam::EndpointRecord record = store_->endpoints().value().front();
    EXPECT_TRUE(record.delegated_ipam);
    ASSERT_EQ(record.ips.size(), 2U) << version;
    EXPECT_TRUE(Cidr::parse("10.99.0.0/29")->contains(record.ips[0]));
    EXPECT_EQ(store_->leases().value().size(), 0U);
    EXPECT_EQ(reserved(), 2);
    EXPECT_EQ(code_of(plugin("DEL", "c1", pod.path(), conf(version))), 0);
    EXPECT_EQ(reserved(), 0);
    EXPECT_EQ(leftovers(), "");
  }
}

TEST_F(DelegateTest, ItsRoutesGoByOurGateway) {
  const Pod pod;
  const json result = added("c1", pod, conf("1.0.0"));
  EXPECT_THAT(result["routes"].dump(), HasSubstr(R"({"dst":"198.51.100.0/24","gw":"169.254.1.1"})"));
  EXPECT_EQ(code_of(plugin("CHECK", "c1", pod.path(),
                           [&] {
                             json with = conf("1.0.0");
                             with["prevResult"] = result;
                             return with;
                           }())),
            0);
}

// C9: what the delegate leased is given back when we fail.
TEST_F(DelegateTest, AFailedAddReleasesItsLeases) {
  const Pod pod;
  datapath_->refuse_publish = true;
  EXPECT_EQ(code_of(plugin("ADD", "c1", pod.path(), conf())), 999);
  EXPECT_EQ(reserved(), 0);
  stop_agent();
  EXPECT_EQ(code_of(plugin("ADD", "c1", pod.path(), conf())), 11);
  EXPECT_EQ(reserved(), 0);
}

TEST_F(DelegateTest, ADelWithoutAgentStillReleasesItsLeases) {
  const Pod pod;
  added("c1", pod, conf());
  stop_agent();
  EXPECT_EQ(code_of(plugin("DEL", "c1", "", conf())), 0);
  EXPECT_EQ(reserved(), 0);
}

TEST_F(DelegateTest, ItsErrorsComeThroughWithTheirCode) {
  std::vector<Pod> pods(7);
  PluginOutcome outcome;
  for (size_t i = 0; i < pods.size() && outcome.exit_code == 0; ++i) {
    outcome = plugin("ADD", fmt::format("c{}", i), pods[i].path(), conf());
  }
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(message_of(outcome), HasSubstr("host-local"));
  EXPECT_EQ(reserved(), 10);
}

TEST_F(DelegateTest, StatusNeedsNoPoolOfOursAndGcIsSkippedWhereUnknown) {
  allocator_->set_pools({});
  EXPECT_EQ(code_of(plugin("STATUS", "", "")), 50);
  EXPECT_EQ(code_of(plugin("STATUS", "", "", conf())), 0);
  json gc = conf();
  gc["cni.dev/valid-attachments"] = json::array();
  EXPECT_EQ(code_of(plugin("GC", "", "", gc)), 0);
}

TEST_F(DelegateTest, AMissingPluginIsNamed) {
  const Pod pod;
  json wanted = conf();
  wanted["ipam"]["type"] = "not-there";
  const auto outcome = plugin("ADD", "c1", pod.path(), wanted);
  EXPECT_EQ(code_of(outcome), 103);
  EXPECT_THAT(message_of(outcome), HasSubstr("not-there"));
  EXPECT_THAT(message_of(outcome), HasSubstr("/usr/lib/cni"));
}

// Scripts in the place of a plugin.
class ScriptedIpamTest : public NodeTest {
 protected:
  void script(const std::string& text) {
    const auto path = directory_ / "scripted";
    std::ofstream(path) << "#!/bin/sh\n" << text;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  PluginOutcome run(const char* command, const Pod& pod) {
    return plugin(command, "c1", pod.path(), {{"ipam", {{"type", "scripted"}}}},
                  {{"CNI_PATH", directory_.string()}});
  }
};

TEST_F(ScriptedIpamTest, GetsOurEnvironmentAndStdin) {
  const Pod pod;
  script(R"(cat > $(dirname $0)/stdin.$CNI_COMMAND
echo "$CNI_CONTAINERID $CNI_IFNAME" > $(dirname $0)/env
echo '{"cniVersion":"1.1.0","ips":[{"address":"10.98.0.5/24"}]}')");
  EXPECT_EQ(code_of(run("ADD", pod)), 0);
  std::string env;
  std::getline(std::ifstream(directory_ / "env"), env);
  EXPECT_EQ(env, "c1 eth0");
  std::ifstream input(directory_ / "stdin.ADD");
  EXPECT_EQ(json::parse(input)["ipam"]["type"], "scripted");
  EXPECT_EQ(code_of(run("DEL", pod)), 0);
  EXPECT_TRUE(std::filesystem::exists(directory_ / "stdin.DEL"));
}

TEST_F(ScriptedIpamTest, NonsenseIsAnErrorAndUndone) {
  const Pod pod;
  for (const char* answer : {"echo not-json", "echo '{}'", "exit 3", "kill -9 $$",
                             "echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{}]}'"}) {
    script(answer);
    EXPECT_EQ(code_of(run("ADD", pod)), 103) << answer;
    EXPECT_EQ(leftovers(), "") << answer;
  }
}

TEST_F(ScriptedIpamTest, AnAddressOfAnotherEndpointIsRefusedNamingIt) {
  const Pod a;
  const Pod b;
  added("first", a);
  script(R"(echo '{"cniVersion":"1.1.0","ips":[{"address":"10.7.0.1/24"}]}')");
  const auto outcome = run("ADD", b);
  EXPECT_EQ(code_of(outcome), 7);
  EXPECT_THAT(message_of(outcome), HasSubstr("first/eth0"));
}

}  // namespace
}  // namespace bpfnet::cni::test
