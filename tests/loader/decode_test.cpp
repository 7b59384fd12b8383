#include "maps/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <nlohmann/json.hpp>

#include "maps/abi/reasons.h"
#include "maps/convert.h"
#include "maps/key_text.h"
#include "maps/labels.h"

namespace bpfnet::maps {
namespace {

using ::testing::HasSubstr;

Address ip(const char* text) {
  return *Address::parse(text);
}

TEST(KeyText, ReadsAsPeopleWriteIt) {
  EXPECT_EQ(key_text(make_flow_key(ip("10.0.0.1"), 4000, ip("10.96.0.1"), 80, IPPROTO_TCP)),
            "10.0.0.1:4000 > 10.96.0.1:80 tcp");
  EXPECT_EQ(key_text(make_flow_key(ip("fd00::1"), 7, ip("fd00::2"), 0, IPPROTO_ICMPV6, 5)),
            "[fd00::1]:7 > [fd00::2]:0 icmpv6 net 5");
  EXPECT_EQ(key_text(make_address_key(ip("192.0.2.1"))), "192.0.2.1");
  EXPECT_EQ(key_text(make_cidr_key(*Cidr::parse("10.0.0.0/8"))), "10.0.0.0/8");
  EXPECT_EQ(key_text(make_cidr_key(*Cidr::parse("0.0.0.0/0"))), "0.0.0.0/0");
  EXPECT_EQ(key_text(make_cidr_key(*Cidr::parse("::/0"))), "::/0");
  EXPECT_EQ(key_text(make_frontend_key(ip("10.96.0.1"), 443, IPPROTO_TCP)), "10.96.0.1:443 tcp");
  EXPECT_EQ(key_text(make_frontend_key(ip("0.0.0.0"), 30080, IPPROTO_UDP, SCOPE_ANY_LOCAL)),
            "any-local-ipv4:30080 udp");
  EXPECT_EQ(key_text(make_frontend_key(ip("::"), 30080, IPPROTO_UDP, SCOPE_ANY_LOCAL)),
            "any-local-ipv6:30080 udp");
  EXPECT_EQ(key_text(make_frontend_range_key(ip("10.0.0.1"), 8192, 6, IPPROTO_TCP)),
            "10.0.0.1:8192-9215 tcp");
  EXPECT_EQ(key_text(make_frontend_range_key(ip("::"), 8000, 16, IPPROTO_UDP, SCOPE_ANY_LOCAL)),
            "any-local-ipv6:8000 udp");
  EXPECT_EQ(key_text(make_source_range_key(3, *Cidr::parse("192.0.2.0/24"))), "set 3, 192.0.2.0/24");
  EXPECT_EQ(key_text(make_source_range_key(3, *Cidr::parse("::/0"))), "set 3, ::/0");
  EXPECT_EQ(key_text(make_affinity_key(ip("192.0.2.7"), 12)), "192.0.2.7, service 12");
}

TEST(KeyText, PolicyKeysShowWhatTheirPrefixCovers) {
  EXPECT_EQ(key_text(make_policy_key(7, 256, IPPROTO_TCP, 80, 16)), "set 7, identity 256, tcp/80");
  EXPECT_EQ(key_text(make_policy_key(7, IDENTITY_ANY, IPPROTO_TCP, 80, 12)),
            "set 7, identity any, tcp/80-95");
  EXPECT_EQ(key_text(make_policy_key(7, IDENTITY_WORLD, IPPROTO_SCTP, 0, 0)), "set 7, identity world, sctp");
  EXPECT_EQ(key_text(make_policy_key(7, 256, 0, 80, 16)), "set 7, identity 256, any");
}

TEST(Convert, GoesThereAndBack) {
  for (const char* text : {"10.1.2.3", "fd00::1", "::", "255.255.255.255"})
    EXPECT_EQ(from_abi(to_abi(ip(text))), ip(text)) << text;
  const Mac mac = *Mac::parse("02:00:00:00:00:01");
  EXPECT_EQ(from_abi(to_abi(mac)), mac);
  for (const char* text : {"10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32", "fd00::/8", "::/0", "fd00::1/128"})
    EXPECT_EQ(from_abi(make_cidr_key(*Cidr::parse(text))), *Cidr::parse(text)) << text;
  const auto fields = from_abi(make_policy_key(9, 300, IPPROTO_UDP, 0x1234, 8));
  EXPECT_EQ(fields.set, 9U);
  EXPECT_EQ(fields.identity, 300U);
  EXPECT_EQ(fields.port, 0x1200);
  EXPECT_EQ(fields.port_bits, 8);
}

TEST(Convert, Ipv4AnyAndIpv6AnyAreDifferentFrontends) {
  const auto v4 = make_frontend_key(ip("0.0.0.0"), 80, IPPROTO_TCP, SCOPE_ANY_LOCAL);
  const auto v6 = make_frontend_key(ip("::"), 80, IPPROTO_TCP, SCOPE_ANY_LOCAL);
  EXPECT_NE(std::memcmp(&v4, &v6, sizeof(v4)), 0);
}

TEST(Labels, KnowEveryNumberOfTheTables) {
  EXPECT_EQ(drop_reason_label(DROP_POLICY_INGRESS), "policy-ingress");
  EXPECT_EQ(drop_reason_label(31), "31");
  EXPECT_EQ(hook_label(HOOK_from_uplink), "from_uplink");
  EXPECT_EQ(verdict_label(VERDICT_TO_NEXT_HOP), "to-next-hop");
  for (const Label& reason : drop_reasons()) {
    EXPECT_LT(reason.number, static_cast<uint32_t>(DROP_REASONS_MAX));
    EXPECT_THAT(std::string(reason.text), ::testing::EndsWith("."));
  }
  EXPECT_EQ(proto_from_label("tcp"), IPPROTO_TCP);
  EXPECT_EQ(proto_from_label("132"), IPPROTO_SCTP);
  EXPECT_FALSE(proto_from_label("tcpx"));
  EXPECT_FALSE(proto_from_label("300"));
  EXPECT_EQ(frontend_flag_labels(FRONTEND_NODE_PORT | FRONTEND_AFFINITY | 1U << 20),
            (std::vector<std::string>{"node-port", "affinity", "1048576"}));
}

TEST(Decode, AFlowAsTextAndAsJson) {
  flow value{};
  value.peer = make_flow_key(ip("10.1.0.2"), 8080, ip("10.1.0.1"), 4000, IPPROTO_TCP);
  value.state = FLOW_ESTABLISHED;
  value.action = FLOW_TO_ENDPOINT;
  value.flags = FLOW_TRANSLATED | FLOW_SERVICE;
  value.packets = 12;
  const nlohmann::ordered_json json = to_json(decode(value));
  EXPECT_EQ(json["state"], "established");
  EXPECT_EQ(json["direction"], "original");
  EXPECT_EQ(json["peer_source"], "10.1.0.2");
  EXPECT_EQ(json["peer_source_port"], 8080);
  EXPECT_EQ(json["flags"], (nlohmann::ordered_json{"translated", "service"}));
  EXPECT_EQ(json["packets"], 12);
  EXPECT_THAT(to_text(decode(value)), HasSubstr("state=established direction=original peer_source=10.1.0.2"));
  EXPECT_THAT(to_text(decode(value)), HasSubstr("destination_mac=- "));
}

TEST(Decode, AnEventNamesHookVerdictAndReason) {
  packet_event event{};
  event.key = make_flow_key(ip("192.0.2.1"), 1, ip("10.1.0.2"), 80, IPPROTO_TCP);
  event.hook = HOOK_from_uplink;
  event.verdict = VERDICT_DROP;
  event.reason = DROP_POLICY_INGRESS;
  event.rule = 3;
  EXPECT_THAT(
      to_text(decode(event)),
      HasSubstr("hook=from_uplink verdict=drop reason=policy-ingress flags=- protocol=tcp source=192.0.2.1"));
}

TEST(Decode, FieldNamesAreUniqueInEveryRecord) {
  const std::vector<Fields> records = {decode(flow_key{}),
                                       decode(flow{}),
                                       decode(flow_slot{}),
                                       decode(flow_table{}),
                                       decode(endpoint{}),
                                       decode(endpoint_usage{}),
                                       decode(address_key{}),
                                       decode(address_info{}),
                                       decode(cidr_key{}),
                                       decode(cidr_info{}),
                                       decode(node{}),
                                       decode(interface{}),
                                       decode(frontend_key{}),
                                       decode(frontend{}),
                                       decode(backend_slot{}),
                                       decode(backend_state{}),
                                       decode(policy_key{}),
                                       decode(policy_entry{}),
                                       decode(packet_count{}),
                                       decode(packet_event{}),
                                       decode(datapath_config{}),
                                       decode(frontend_range_key{}),
                                       decode(source_range_key{}),
                                       decode(source_range{}),
                                       decode(affinity_key{}),
                                       decode(affinity{})};
  for (const Fields& fields : records) {
    EXPECT_EQ(to_json(fields).size(), fields.size()) << to_text(fields);
  }
}

}  // namespace
}  // namespace bpfnet::maps
