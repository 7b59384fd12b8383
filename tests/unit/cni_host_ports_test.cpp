// Ports of the node that pods publish: who has one, and who is refused in whose name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/cni_fixture.h"

namespace bpfnet::cni::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class HostPortTest : public NodeTest {};

// C21
TEST_F(HostPortTest, AHostPortTakenNamesBothOwners) {
  const Pod a;
  const Pod b;
  const json conf =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}})");
  added("a", a, conf, {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=first"}});
  const auto outcome =
      plugin("ADD", "b", b.path(), conf, {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=second"}});
  EXPECT_EQ(code_of(outcome), 101);
  EXPECT_THAT(message_of(outcome), HasSubstr("ns1/first"));
  EXPECT_THAT(message_of(outcome), HasSubstr("ns1/second"));
  EXPECT_EQ(devices(b.netns()), "");
  ASSERT_EQ(code_of(plugin("DEL", "a", a.path())), 0);
  added("b", b, conf);
}

TEST_F(HostPortTest, OverlappingPortRangesNameBothOwnersAndNothingIsMade) {
  const Pod a;
  const Pod b;
  const auto mapping = [](const char* text) {
    return json{{"runtimeConfig", {{"portMappings", {json::parse(text)}}}}};
  };
  const json range = mapping(R"({"hostPort":8000,"hostPortEnd":8099,"containerPort":8000})");
  added("a", a, range, {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=first"}});
  EXPECT_EQ(store_->endpoints().value()[0].host_ports[0].count, 100);
  const auto outcome =
      plugin("ADD", "b", b.path(), mapping(R"({"hostPort":8099,"containerPort":80,"hostIP":"192.0.2.1"})"),
             {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=second"}});
  EXPECT_EQ(code_of(outcome), 101);
  EXPECT_THAT(message_of(outcome), HasSubstr("8099 of pod ns1/second"));
  EXPECT_THAT(message_of(outcome), HasSubstr("taken by pod ns1/first"));
  EXPECT_THAT(message_of(outcome), HasSubstr("8000-8099"));
  EXPECT_EQ(devices(b.netns()), "");
  EXPECT_EQ(store_->endpoints().value().size(), 1U);
  added("b", b, mapping(R"({"hostPort":8100,"containerPort":80})"));
}

TEST_F(HostPortTest, APortThatAServiceHasIsRefusedInItsName) {
  const Pod a;
  const json conf =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":30080,"containerPort":80}]}})");
  datapath_->services_port = 30080;
  const auto outcome = plugin("ADD", "a", a.path(), conf);
  EXPECT_EQ(code_of(outcome), 101);
  EXPECT_THAT(message_of(outcome), HasSubstr("30080 of container a/eth0 is taken by Service default/web"));
  EXPECT_EQ(devices(a.netns()), "");
  EXPECT_EQ(leftovers(), "");
  datapath_->services_port = 0;
  added("a", a, conf);
}

TEST_F(HostPortTest, ARepeatedAddOfTheSameContainerMeetsItsOwnPortsOnly) {
  const Pod first;
  const json conf =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}})");
  added("a", first, conf);
  ASSERT_EQ(code_of(plugin("DEL", "a", first.path())), 0);
  const Pod second;
  added("a", second, conf);
}

TEST_F(HostPortTest, HostPortsOfDifferentHostIpOrProtocolCoexist) {
  const char* mappings[] = {R"({"hostPort":54321,"containerPort":80,"hostIP":"127.0.0.1"})",
                            R"({"hostPort":54321,"containerPort":80,"hostIP":"192.0.2.1"})",
                            R"({"hostPort":54321,"containerPort":80,"hostIP":"192.0.2.1","protocol":"UDP"})"};
  std::vector<Pod> pods(3);
  for (size_t i = 0; i < pods.size(); ++i) {
    added(fmt::format("c{}", i), pods[i],
          {{"runtimeConfig", {{"portMappings", {json::parse(mappings[i])}}}}});
  }
  const Pod last;
  const json any =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":54321,"containerPort":80}]}})");
  EXPECT_EQ(code_of(plugin("ADD", "any", last.path(), any)), 101);
}

}  // namespace
}  // namespace bpfnet::cni::test
