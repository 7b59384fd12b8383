// What runtimes send: environment and configuration, as captured from them and as it should not be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/cni/config.h"
#include "control/cni/environment.h"
#include "control/cni/types.h"
#include "tests/support/addresses.h"

namespace bpfnet::cni {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Variables add_variables() {
  return {{"CNI_COMMAND", "ADD"},
          {"CNI_CONTAINERID", "c1"},
          {"CNI_NETNS", "/run/netns/a"},
          {"CNI_IFNAME", "eth0"}};
}

// --- environment ---

// C4: containerd sends the keys in random order.
TEST(Environment, ReadsThePodFromContainerdsArgs) {
  Variables variables = add_variables();
  variables["CNI_ARGS"] =
      "K8S_POD_UID=uid-1;IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_NAME=pod1;K8S_POD_NAMESPACE="
      "ns1";
  const auto environment = parse_environment(Command::kAdd, variables);
  ASSERT_TRUE(environment) << environment.error().message;
  EXPECT_EQ(environment->pod, (model::ObjectName{"ns1", "pod1"}));
  EXPECT_EQ(environment->pod_uid, "uid-1");
}

TEST(Environment, ReadsPodmansAddressAndMac) {
  Variables variables = add_variables();
  variables["CNI_ARGS"] = "IgnoreUnknown=1;IP=10.88.0.9;MAC=02:00:00:00:00:09;K8S_POD_NAME=web";
  const auto environment = parse_environment(Command::kAdd, variables);
  ASSERT_TRUE(environment) << environment.error().message;
  EXPECT_THAT(environment->ips, ElementsAre(ip("10.88.0.9")));
  EXPECT_EQ(environment->mac->to_string(), "02:00:00:00:00:09");
}

// C3, C7
TEST(Environment, NamesEveryMissingVariable) {
  const auto environment = parse_environment(Command::kAdd, {{"CNI_IFNAME", "eth0"}});
  ASSERT_FALSE(environment);
  EXPECT_EQ(environment.error().code, 4);
  EXPECT_THAT(environment.error().message, HasSubstr("CNI_CONTAINERID, CNI_NETNS"));
  EXPECT_EQ(parse_environment(Command::kGc, {}).error().code, 4) << "GC and STATUS need CNI_PATH";
}

TEST(Environment, DelNeedsNoNetnsAndDoesNotLookAtArgs) {
  Variables variables = add_variables();
  variables["CNI_NETNS"] = "";
  variables["CNI_ARGS"] = "IP=nonsense;rubbish";
  EXPECT_TRUE(parse_environment(Command::kDel, variables));
  EXPECT_EQ(parse_environment(Command::kAdd, add_variables()).has_value(), true);
}

// C8
TEST(Environment, UnknownAndMissingCommandsAreCodeFour) {
  EXPECT_EQ(parse_command({{"CNI_COMMAND", "FROB"}}).error().code, 4);
  EXPECT_EQ(parse_command({}).error().code, 4);
}

// C6
TEST(Environment, ChecksContainerIdAndIfname) {
  for (const char* good : {"a", "0c", "A.b_c-d"}) EXPECT_TRUE(valid_name(good)) << good;
  for (const char* bad : {"", ".a", "-a", "_a", "a/b", "a b", "\xc3\xa4", "a\n"})
    EXPECT_FALSE(valid_name(bad)) << bad;
  for (const char* good : {"eth0", "fifteen-chars-x", "e.1"}) EXPECT_TRUE(valid_ifname(good)) << good;
  for (const char* bad : {"", ".", "..", "a/b", "a:b", "a b", "sixteen-chars-xx", "a\tb"}) {
    EXPECT_FALSE(valid_ifname(bad)) << bad;
  }
  Variables variables = add_variables();
  variables["CNI_IFNAME"] = "eth/0";
  EXPECT_THAT(parse_environment(Command::kAdd, variables).error().message, HasSubstr("CNI_IFNAME"));
  variables = add_variables();
  variables["CNI_CONTAINERID"] = "../../x";
  EXPECT_EQ(parse_environment(Command::kDel, variables).error().code, 4);
}

TEST(Environment, BadArgsAreNamed) {
  for (const char* args : {"IP=300.0.0.1", "MAC=xx", "novalue"}) {
    Variables variables = add_variables();
    variables["CNI_ARGS"] = args;
    EXPECT_EQ(parse_environment(Command::kAdd, variables).error().code, 4) << args;
  }
}

// --- configuration ---

CniResult<NetConf> with_runtime(const char* runtime_config) {
  return parse_conf(fmt::format(
      R"({{"cniVersion":"1.0.0","name":"n","type":"bpfnet-cni","runtimeConfig":{}}})", runtime_config));
}

// C20, captured from containerd 1.6: keys begin with capitals.
TEST(Config, ReadsContainerdsRuntimeConfig) {
  const auto conf = with_runtime(R"({
    "bandwidth":{"IngressRate":10000000,"IngressBurst":4294967295,"EgressRate":20000000,"EgressBurst":4294967295},
    "dns":{"Servers":["10.0.0.53"],"Searches":[],"Options":["ndots:5"]},
    "io.kubernetes.cri.pod-annotations":{},
    "portMappings":[{"HostPort":18200,"ContainerPort":80,"Protocol":"tcp","HostIP":""}]})");
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_THAT(conf->host_ports, ElementsAre(ipam::HostPort{18200, 80, model::Protocol::kTcp, {}}));
  EXPECT_EQ(conf->dns, (ResultDns{{"10.0.0.53"}, "", {}, {"ndots:5"}}));
}

// Captured from Podman 4.3: hostIP only when given, aliases by network.
TEST(Config, ReadsPodmansRuntimeConfig) {
  const auto conf = with_runtime(R"({
    "aliases":{"podnet":["web"]},
    "portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},
                    {"hostPort":5353,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}]})");
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_THAT(conf->host_ports,
              ElementsAre(ipam::HostPort{8080, 80, model::Protocol::kTcp, {}},
                          ipam::HostPort{5353, 53, model::Protocol::kUdp, ip("127.0.0.1")}));
}

// C21: 10,000 single mappings, as Podman sends them for a published range.
TEST(Config, NeighbouringPortMappingsAreOneRange) {
  std::string list;
  for (int i = 9999; i >= 0; --i)
    list += fmt::format(R"({{"hostPort":{},"containerPort":{},"protocol":"tcp"}})", 30000 + i, 40000 + i) +
            (i ? "," : "");
  const std::string runtime = R"({"portMappings":[)" + list + "]}";
  const auto begin = std::chrono::steady_clock::now();
  const auto conf = with_runtime(runtime.c_str());
  const auto took = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_THAT(conf->host_ports, ElementsAre(ipam::HostPort{30000, 40000, model::Protocol::kTcp, {}, 10000}));
  RecordProperty("microseconds",
                 std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
  EXPECT_LT(took, std::chrono::seconds(2)) << "a few ms in a release build";
}

TEST(Config, PortMappingsAreOneRangeOnlyIfEverythingElseIsTheSame) {
  const auto conf = with_runtime(R"({"portMappings":[
    {"hostPort":100,"containerPort":200},{"hostPort":101,"containerPort":201},
    {"hostPort":102,"containerPort":203},
    {"hostPort":103,"containerPort":204,"protocol":"udp"},
    {"hostPort":103,"containerPort":204,"hostIP":"192.0.2.1"},
    {"hostPort":104,"containerPort":205,"hostIP":"192.0.2.1"},
    {"hostPort":300,"containerPort":400,"hostPortEnd":309},
    {"hostPort":310,"containerPort":410}]})");
  ASSERT_TRUE(conf) << conf.error().message;
  const auto tcp = model::Protocol::kTcp;
  EXPECT_THAT(conf->host_ports,
              testing::UnorderedElementsAre(
                  ipam::HostPort{100, 200, tcp, {}, 2}, ipam::HostPort{102, 203, tcp, {}},
                  ipam::HostPort{103, 204, model::Protocol::kUdp, {}},
                  ipam::HostPort{103, 204, tcp, ip("192.0.2.1"), 2}, ipam::HostPort{300, 400, tcp, {}, 11}));
}

TEST(Config, ContradictingPortMappingsAreRefused) {
  for (
      const char* bad :
      {R"([{"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":2}])",
       R"([{"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":1,"hostIP":"192.0.2.1"}])",
       R"([{"hostPort":80,"hostPortEnd":90,"containerPort":1},{"hostPort":85,"containerPort":2}])",
       R"([{"hostPort":80,"hostPortEnd":90,"containerPort":1},{"hostPort":85,"containerPort":6},{"hostPort":90,"containerPort":2}])",
       R"([{"hostPort":80,"hostPortEnd":79,"containerPort":1}])",
       R"([{"hostPort":80,"hostPortEnd":90,"containerPort":65530}])",
       R"([{"hostPort":80,"hostPortEnd":70000,"containerPort":1}])"}) {
    const auto conf = with_runtime(fmt::format(R"({{"portMappings":{}}})", bad).c_str());
    ASSERT_FALSE(conf) << bad;
    EXPECT_EQ(conf.error().code, 7) << bad;
    EXPECT_THAT(conf.error().message, HasSubstr("ort")) << bad;
  }
  EXPECT_TRUE(with_runtime(
      R"({"portMappings":[{"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":1}]})"))
      << "the same twice says nothing new";
}

TEST(Config, ReadsTheWholeRuntimeConfig) {
  const auto conf = with_runtime(R"({"MAC":"02:00:00:00:00:07","IPs":["10.0.0.9/24"],
    "ipRanges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.5","rangeEnd":"10.0.0.9","gateway":"10.0.0.6"}],
                [{"subnet":"fd00::/64"}]]})");
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_EQ(conf->mac->to_string(), "02:00:00:00:00:07");
  EXPECT_THAT(conf->ips, ElementsAre(ip("10.0.0.9")));
  ASSERT_EQ(conf->ranges.size(), 2U);
  EXPECT_EQ(conf->ranges[0][0].name, "10.0.0.5-10.0.0.9");
  EXPECT_EQ(conf->ranges[0][0].size(), 4U);
  EXPECT_THAT(conf->ranges[0][0].reserved, ElementsAre(ip("10.0.0.6")));
  EXPECT_EQ(conf->ranges[1][0].name, "fd00::/64");
}

struct BadConf {
  const char* text;
  int code;
  const char* names;
};

class BadConfig : public ::testing::TestWithParam<BadConf> {};

TEST_P(BadConfig, IsRefusedWithItsCodeNamingTheField) {
  const auto conf = parse_conf(GetParam().text);
  ASSERT_FALSE(conf);
  EXPECT_EQ(conf.error().code, GetParam().code);
  EXPECT_THAT(conf.error().message, HasSubstr(GetParam().names));
}

// C1, C6, C7, C8, C21
INSTANTIATE_TEST_SUITE_P(
    Fields, BadConfig,
    ::testing::Values(
        BadConf{"", 6, "stdin"}, BadConf{"[]", 6, "stdin"}, BadConf{"{", 6, "stdin"},
        BadConf{R"({"cniVersion":"2.0.0","name":"n"})", 1, "2.0.0"},
        BadConf{R"({"cniVersion":"1.0.0"})", 7, "name"},
        BadConf{R"({"cniVersion":5,"name":"n"})", 7, "cniVersion"}, BadConf{R"({"name":"../n"})", 7, "name"},
        BadConf{R"({"name":"n","mtu":100000})", 7, "mtu"}, BadConf{R"({"name":"n","mtu":600})", 7, "1280"},
        BadConf{R"({"name":"n","ipam":{"type":"../evil"}})", 7, "ipam.type"},
        BadConf{R"({"cniVersion":"1.0.0","name":"n","prevResult":{"ips":1}})", 6, "prevResult"},
        BadConf{R"({"name":"n","runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":80}]}})", 7,
                "hostPort"},
        BadConf{R"({"name":"n","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":-1}]}})", 7,
                "containerPort"},
        BadConf{R"({"name":"n","runtimeConfig":{"portMappings":[{"hostPort":65536,"containerPort":1}]}})", 7,
                "65536"},
        BadConf{
            R"({"name":"n","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":1,"protocol":"icmp"}]}})",
            7, "icmp"},
        BadConf{
            R"({"name":"n","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":1,"hostIP":"x"}]}})",
            7, "hostIP"},
        BadConf{
            R"({"name":"n","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":2}]}})",
            7, "twice"},
        BadConf{
            R"({"name":"n","runtimeConfig":{"ipRanges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.1.1"}]]}})",
            7, "rangeStart"},
        BadConf{
            R"({"name":"n","runtimeConfig":{"ipRanges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]}})",
            7, "mixes"},
        BadConf{R"({"name":"n","runtimeConfig":{"ips":["nonsense"]}})", 7, "ips"},
        BadConf{R"({"name":"n","runtimeConfig":{"mac":"nonsense"}})", 7, "mac"}));

// C1, C5
TEST(Config, ToleratesUnknownFieldsAndAMissingVersion) {
  const auto conf =
      parse_conf(R"({"name":"n","type":"bpfnet-cni","frob":{"x":[1,2]},"capabilities":{"mac":true}})");
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_EQ(conf->version, (Version{0, 1, 0}));
  EXPECT_THAT(conf->text, HasSubstr("frob"));
}

// C11: a DEL must not fail for what only an ADD needs.
TEST(Config, DelIgnoresABadRuntimeConfig) {
  const char* text = R"({"name":"n","mtu":"x","runtimeConfig":{"portMappings":7},"prevResult":5})";
  EXPECT_FALSE(parse_conf(text));
  EXPECT_TRUE(parse_conf(text, true));
}

TEST(Config, ReadsOurOwnFields) {
  const auto conf = parse_conf(R"({"name":"n","socket":"/a","stateDir":"/b","logFile":"/c","mtu":1400,
    "ipam":{"type":"bpfnet","ranges":[[{"subnet":"10.3.0.0/24"}]]},
    "args":{"cni":{"mac":"02:00:00:00:00:08","ips":["10.3.0.8"]}}})");
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_EQ(conf->socket, "/a");
  EXPECT_EQ(conf->state_dir, "/b");
  EXPECT_EQ(conf->log_file, "/c");
  EXPECT_EQ(conf->mtu, 1400U);
  EXPECT_EQ(conf->ipam_plugin, "");
  EXPECT_EQ(conf->ranges.size(), 1U);
  EXPECT_EQ(conf->mac->to_string(), "02:00:00:00:00:08");
  EXPECT_THAT(conf->ips, ElementsAre(ip("10.3.0.8")));
}

TEST(Config, ADelegatedPluginKeepsItsOwnRanges) {
  const auto conf =
      parse_conf(R"({"name":"n","ipam":{"type":"host-local","ranges":[[{"subnet":"10.3.0.0/24"}]]}})");
  ASSERT_TRUE(conf) << conf.error().message;
  EXPECT_EQ(conf->ipam_plugin, "host-local");
  EXPECT_TRUE(conf->ranges.empty());
}

TEST(Config, TheVersionOfTheAnswerIsThatOfTheQuestion) {
  EXPECT_EQ(version_of(R"({"cniVersion":"0.3.1"})"), (Version{0, 3, 1}));
  EXPECT_EQ(version_of("{}"), (Version{0, 1, 0}));
  EXPECT_EQ(version_of(R"({"cniVersion":"7.0.0"})"), kNewestVersion);
  EXPECT_EQ(version_of(""), kNewestVersion);
}

TEST(Types, HostNamesAreStableAndFitADevice) {
  EXPECT_EQ(host_ifname({"c1", "eth0"}), host_ifname({"c1", "eth0"}));
  EXPECT_NE(host_ifname({"c1", "eth0"}), host_ifname({"c1", "eth1"}));
  EXPECT_NE(host_ifname({"c1", "eth0"}), host_ifname({"c2", "eth0"}));
  EXPECT_EQ(host_ifname({"c1", "eth0"}).size(), 15U);
}

}  // namespace
}  // namespace bpfnet::cni
