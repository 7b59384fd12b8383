// Result and error shapes of every version (C2, C7, C10).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/cni/result.h"
#include "tests/support/addresses.h"

namespace bpfnet::cni {
namespace {

using nlohmann::json;

AddResult dual_stack() {
  AddResult result;
  result.interfaces = {{"bpn1", "02:00:00:00:00:01", 1400, ""},
                       {"eth0", "02:00:00:00:00:02", 1400, "/run/netns/a"}};
  result.ips = {{ip("10.0.0.5"), 32, ip("169.254.1.1"), 1}, {ip("fd00::5"), 128, ip("fe80::1"), 1}};
  result.routes = {{.dst = cidr("0.0.0.0/0"), .gateway = ip("169.254.1.1")},
                   {.dst = cidr("::/0"), .gateway = ip("fe80::1")}};
  return result;
}

TEST(Result, LegacyVersionsCarryTheFirstAddressOfEachFamily) {
  AddResult result = dual_stack();
  result.ips.push_back({ip("10.0.0.6"), 32, {}, 1});
  for (const Version version : {Version{0, 1, 0}, Version{0, 2, 0}}) {
    json expected = json::parse(R"({
      "ip4": {"ip": "10.0.0.5/32", "gateway": "169.254.1.1", "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]},
      "ip6": {"ip": "fd00::5/128", "gateway": "fe80::1", "routes": [{"dst": "::/0", "gw": "fe80::1"}]}})");
    expected["cniVersion"] = version.to_string();
    EXPECT_EQ(json::parse(result_json(result, version)), expected);
  }
}

class ListVersions : public ::testing::TestWithParam<Version> {};

TEST_P(ListVersions, CarryIpVersionBeforeOneAndMtuFromOneOne) {
  const Version version = GetParam();
  const json out = json::parse(result_json(dual_stack(), version));
  EXPECT_EQ(out["cniVersion"], version.to_string());
  const bool before_one = version < Version{1, 0, 0};
  EXPECT_EQ(out["ips"][0].value("version", "none"), before_one ? "4" : "none");
  EXPECT_EQ(out["ips"][1].value("version", "none"), before_one ? "6" : "none");
  EXPECT_EQ(out["interfaces"][1].contains("mtu"), (version >= Version{1, 1, 0}));
  EXPECT_EQ(out["ips"][0]["interface"], 1);
  EXPECT_EQ(out["ips"][0]["address"], "10.0.0.5/32");
  EXPECT_FALSE(out["interfaces"][0].contains("sandbox"));
  EXPECT_FALSE(out.contains("dns")) << "an empty dns is left out";
}

INSTANTIATE_TEST_SUITE_P(Versions, ListVersions,
                         ::testing::Values(Version{0, 3, 0}, Version{0, 3, 1}, Version{0, 4, 0},
                                           Version{1, 0, 0}, Version{1, 1, 0}));

class EveryVersion : public ::testing::TestWithParam<Version> {};

TEST_P(EveryVersion, WhatIsWrittenIsReadBack) {
  const json out = json::parse(result_json(dual_stack(), GetParam()));
  const auto back = parse_result(out, kNewestVersion);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->ips[0].address, ip("10.0.0.5"));
  EXPECT_EQ(back->ips[1].gateway, ip("fe80::1"));
  EXPECT_EQ(back->routes.size(), 2U);
  EXPECT_EQ(result_json(*back, GetParam()), result_json(dual_stack(), GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Versions, EveryVersion, ::testing::ValuesIn(kVersions));

TEST(Result, RouteAttributesAreKeptInOneOne) {
  const json in = json::parse(R"({"cniVersion":"1.1.0","routes":[
      {"dst":"10.9.0.0/16","gw":"10.0.0.1","mtu":1400,"advmss":1360,"priority":5,"table":100,"scope":0}]})");
  const auto result = parse_result(in, kNewestVersion);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(json::parse(result_json(*result, {1, 1, 0}))["routes"], in["routes"]);
}

TEST(Result, DnsIsKept) {
  AddResult result = dual_stack();
  result.dns = {{"10.0.0.53"}, "example", {"a", "b"}, {"ndots:5"}};
  EXPECT_EQ(
      json::parse(result_json(result, {1, 0, 0}))["dns"],
      json::parse(
          R"({"nameservers":["10.0.0.53"],"domain":"example","search":["a","b"],"options":["ndots:5"]})"));
}

TEST(Result, RefusesNonsenseNamingIt) {
  for (const char* text :
       {R"([])", R"({"ips":[{"address":"nonsense"}]})", R"({"ips":3})", R"({"interfaces":[{"name":5}]})",
        R"({"cniVersion":"9.9.9"})", R"({"routes":[{"dst":"0.0.0.0/0","mtu":-1}]})",
        R"({"ips":[{"address":"1.2.3.4/32","interface":1e300}]})"}) {
    const auto result = parse_result(json::parse(text), kNewestVersion);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, 6) << text;
  }
}

// C9: chained after another plugin.
TEST(Result, MergeShiftsTheInterfaceIndexes) {
  AddResult previous;
  previous.interfaces = {{"net1", "", 0, "/run/netns/a"}};
  previous.ips = {{ip("192.0.2.9"), 24, {}, 0}};
  const AddResult merged = merge(previous, dual_stack());
  ASSERT_EQ(merged.interfaces.size(), 3U);
  EXPECT_EQ(merged.ips[0].interface, 0);
  EXPECT_EQ(merged.ips[1].interface, 2);
  EXPECT_EQ(merged.interfaces[2].name, "eth0");
}

TEST(Result, ErrorsCarryVersionCodeMessageAndDetails) {
  EXPECT_EQ(json::parse(error_json({7, "no", ""}, {0, 4, 0})),
            json::parse(R"({"cniVersion":"0.4.0","code":7,"msg":"no"})"));
  EXPECT_EQ(json::parse(error_json({7, "no", "why"}, {0, 4, 0}))["details"], "why");
  EXPECT_NO_THROW((void)error_json({7, "bytes \xff\xfe", ""}, {0, 4, 0}));
}

TEST(Version, AnswerNamesAllSeven) {
  EXPECT_EQ(json::parse(version_answer({1, 0, 0})), json::parse(R"({"cniVersion":"1.0.0",
              "supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]})"));
}

}  // namespace
}  // namespace bpfnet::cni
