#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "control/observe/views.h"
#include "maps/abi/policy.h"
#include "maps/convert.h"
#include "tests/support/addresses.h"
#include "tests/unit/observe_maps.h"

namespace bpfnet::observe {
namespace {

using testing::HasSubstr;

/// A pod (endpoint 1, 10.0.1.1) that talks to service 7 at 10.96.0.1:80 over backend 10.0.2.1:8080, and an
/// echo to the outside, masqueraded.
class Views : public testing::Test {
 protected:
  void SetUp() override {
    auto made = test::make_maps();
    if (!made) GTEST_SKIP() << made.error().message;
    maps = std::move(*made);
    datapath_config config{};
    config.max_flows = 32;
    config.tick_ns = 1'000'000'000;
    ASSERT_TRUE(maps.node_config.put(0, config));
    flow_table table{};
    table.tick = 100;
    table.live = 2;
    ASSERT_TRUE(maps.flow_table_state.put(0, table));

    endpoint pod{};
    pod.state = ENDPOINT_OPEN;
    pod.ip4 = maps::to_abi(ip("10.0.1.1"));
    pod.identity = 256;
    pod.ingress_set = 16;
    ASSERT_TRUE(maps.endpoints.put(1, pod));
    ASSERT_TRUE(maps.addresses.put(maps::make_address_key(ip("10.0.1.1")),
                                   {256, 1, ADDRESS_POD | ADDRESS_LOCAL_POD, 0, 0}));
    ASSERT_TRUE(
        maps.cidrs.put(maps::make_cidr_key(Cidr::parse("0.0.0.0/0").value()), {IDENTITY_WORLD, 0, 0, 0}));
    policy_entry allow{};
    allow.rule = 5;
    allow.verdict = POLICY_ALLOW;
    ASSERT_TRUE(maps.policies.put(maps::make_policy_key(16, IDENTITY_ANY, IPPROTO_TCP, 80, 16), allow));

    frontend service{};
    service.first = 2;
    service.count = 3;
    service.service = 7;
    service.flags = FRONTEND_CLUSTER_IP;
    ASSERT_TRUE(maps.frontends.put(maps::make_frontend_key(ip("10.96.0.1"), 80, IPPROTO_TCP), service));
    for (const auto& [slot, address] : {std::pair{2U, "10.0.2.1"}, {3U, "10.0.2.2"}, {4U, "10.0.2.1"}}) {
      backend_slot record{};
      record.addr = maps::to_abi(ip(address));
      record.port = maps::to_network(8080);
      record.backend = slot;
      ASSERT_TRUE(maps.backend_slots.put(slot, record));
    }
    add_flow("10.0.1.1", 4000, "10.96.0.1", 80, "10.0.2.1", 8080, "10.0.1.1", 4000, IPPROTO_TCP,
             FLOW_SERVICE | FLOW_TRANSLATED);
    add_flow("10.0.1.1", 77, "198.51.100.9", 0, "198.51.100.9", 0, "192.0.2.1", 1077, IPPROTO_ICMP,
             FLOW_MASQUERADED);
  }

  void add_flow(const char* client, uint16_t client_port, const char* destination, uint16_t destination_port,
                const char* backend, uint16_t backend_port, const char* seen_as, uint16_t seen_as_port,
                uint8_t proto, uint8_t flags) {
    const flow_key original_key =
        maps::make_flow_key(ip(client), client_port, ip(destination), destination_port, proto);
    const flow_key reply_key =
        maps::make_flow_key(ip(backend), backend_port, ip(seen_as), seen_as_port, proto);
    flow entry{};
    entry.peer = reply_key;
    entry.state = FLOW_ESTABLISHED;
    entry.flags = flags;
    entry.src_endpoint = 1;
    entry.service = (flags & FLOW_SERVICE) != 0 ? 7 : 0;
    entry.packets = 5;
    entry.created = 10;
    entry.last_seen = 60;
    ASSERT_TRUE(maps.flows.put(original_key, entry));
    entry.peer = original_key;
    entry.flags = static_cast<uint8_t>(flags | FLOW_IS_REPLY);
    entry.packets = 4;
    entry.last_seen = 70;
    ASSERT_TRUE(maps.flows.put(reply_key, entry));
  }

  View flows(const FlowFilterText& text) {
    auto filter = parse_filter(text, maps, Names::none("no agent"));
    EXPECT_TRUE(filter) << filter.error().message;
    auto view = flows_view(maps, Names::none("no agent"), filter ? *filter : FlowFilter{});
    EXPECT_TRUE(view);
    return *view;
  }
  std::string refusal(const FlowFilterText& text) {
    auto filter = parse_filter(text, maps, Names::none("no agent answers at X"));
    return filter ? "" : filter.error().message;
  }

  maps::Maps maps;
};

TEST_F(Views, FlowsShowBothDirectionsInOneRow) {
  const View view = flows({});
  EXPECT_EQ(view.text,
            "PROTO  STATE        CLIENT         DESTINATION     BACKEND        SEEN AS         SERVICE    "
            "FROM POD    "
            "TO POD  PACKETS  IDLE\n"
            "tcp    established  10.0.1.1:4000  10.96.0.1:80    10.0.2.1:8080                  service 7  "
            "endpoint 1  "
            "        5/4      30 s\n"
            "icmp   established  10.0.1.1:77    198.51.100.9:0                 192.0.2.1:1077             "
            "endpoint 1  "
            "        5/4      30 s\n");
  EXPECT_EQ(view.json[0].at("reply_packets"), 4);
  EXPECT_EQ(view.json[0].at("age_seconds"), 90);
}

TEST_F(Views, FlowsByTheOverlayNameTheNode) {
  const flow_key key = maps::make_flow_key(ip("10.0.1.1"), 4000, ip("10.96.0.1"), 80, IPPROTO_TCP);
  flow entry = maps.flows.get(key).value().value();
  entry.action = FLOW_TO_NODE;
  entry.out_node = 3;
  ASSERT_TRUE(maps.flows.put(key, entry));
  const View view = flows({.protocol = "tcp"});
  EXPECT_THAT(view.text, HasSubstr("SEEN AS  BY              SERVICE"));
  EXPECT_THAT(view.text, HasSubstr("overlay node 3"));
  EXPECT_EQ(view.json[0].at("action"), "to-node");
  EXPECT_EQ(view.json[0].at("to_node"), 3);
}

TEST_F(Views, NodesShowWhatLeadsToThem) {
  ASSERT_TRUE(maps.addresses.put(maps::make_address_key(ip("192.0.2.2")),
                                 {IDENTITY_REMOTE_NODE, 0, ADDRESS_REMOTE_NODE, 3, 0}));
  ASSERT_TRUE(maps.cidrs.put(maps::make_cidr_key(Cidr::parse("10.0.2.0/24").value()),
                             {IDENTITY_WORLD, CIDR_CLUSTER, 3, 0}));
  Names names = Names::none("");
  names.take_nodes(nlohmann::json::parse(R"({"nodes": [{"index": 3, "name": "node-b"}]})"));
  const auto native = nodes_view(maps, names);
  ASSERT_TRUE(native);
  EXPECT_THAT(native->text, HasSubstr("3      node-b  192.0.2.2  10.0.2.0/24"));
  node tunnel{};
  tunnel.addr = maps::to_abi(ip("192.0.2.2"));
  tunnel.source = maps::to_abi(ip("192.0.2.1"));
  tunnel.mtu = 1450;
  ASSERT_TRUE(maps.nodes.put(3, tunnel));
  const auto overlay = nodes_view(maps, names);
  EXPECT_THAT(overlay->text, HasSubstr("10.0.2.0/24  192.0.2.2  192.0.2.1  1450"));
  EXPECT_EQ(overlay->json[0].at("tunnel_to"), "192.0.2.2");
}

TEST_F(Views, FlowFiltersHoldTogether) {
  EXPECT_EQ(flows({.source = "10.0.0.0/16"}).json.size(), 2U);
  EXPECT_EQ(flows({.destination = "10.0.2.1"}).json.size(), 1U);
  EXPECT_EQ(flows({.destination = "10.96.0.1"}).json.size(), 1U);
  EXPECT_EQ(flows({.port = "8080"}).json.size(), 1U);
  EXPECT_EQ(flows({.protocol = "icmp"}).json.size(), 1U);
  EXPECT_EQ(flows({.state = "established"}).json.size(), 2U);
  EXPECT_EQ(flows({.port = "80", .protocol = "udp"}).json.size(), 0U);
  EXPECT_EQ(flows({.endpoint = "1"}).json.size(), 2U);
  EXPECT_EQ(flows({.endpoint = "10.0.1.1"}).json.size(), 2U);
  EXPECT_EQ(flows({.endpoint = "2"}).json.size(), 0U);
}

TEST_F(Views, AFilterThatIsNotUnderstoodIsRefusedWithTheWayOut) {
  EXPECT_THAT(refusal({.source = "10.0.0"}), HasSubstr("--src 10.0.0: expected an address or a prefix"));
  EXPECT_THAT(refusal({.source = ""}), HasSubstr("expected an address or a prefix"));
  EXPECT_THAT(refusal({.port = ""}), HasSubstr("expected a number"));
  EXPECT_THAT(refusal({.state = ""}), HasSubstr("expected one of"));
  EXPECT_THAT(refusal({.port = "http"}), HasSubstr("expected a number"));
  EXPECT_THAT(refusal({.port = "65536"}), HasSubstr("expected a number"));
  EXPECT_THAT(refusal({.protocol = "tpc"}), HasSubstr("expected tcp, udp"));
  EXPECT_THAT(refusal({.state = "open"}),
              HasSubstr("expected one of new, replied, closed, closing, established"));
  EXPECT_THAT(refusal({.endpoint = "10.9.9.9"}), HasSubstr("no pod of this node has that address"));
  EXPECT_THAT(refusal({.endpoint = "default/web"}), HasSubstr("give an endpoint's index or address"));
}

TEST_F(Views, ServicesShowEachBackendOnce) {
  const auto view = services_view(maps, Names::none("no agent"));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->text,
            "FRONTEND          SERVICE    KIND        BACKENDS       FOR OUTSIDE CLIENTS\n"
            "10.96.0.1:80 tcp  service 7  cluster-ip  10.0.2.1:8080  none\n"
            "                                         10.0.2.2:8080\n");
  EXPECT_EQ(view->json[0].at("backends").size(), 2U);
}

TEST_F(Views, ServicesShowPublishedRangesAndWhoMayComeAndNoMarks) {
  const auto any = Address::unspecified(Family::kIpv4);
  ASSERT_TRUE(maps.frontend_ranges.put(
      maps::make_frontend_range_key(any, 8000, 13, IPPROTO_UDP, SCOPE_ANY_LOCAL, 0),
      frontend{.service = 9, .flags = FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE, .range_first = 8000}));
  const auto vip = Address::from_ipv4({203, 0, 113, 1});
  ASSERT_TRUE(maps.frontends.put(maps::make_frontend_key(vip, 80, IPPROTO_TCP, SCOPE_ADDRESS, 0),
                                 frontend{.service = 7, .flags = FRONTEND_LOAD_BALANCER, .source_set = 3}));
  ASSERT_TRUE(maps.frontends.put(maps::make_frontend_key(vip, 0, 0, SCOPE_ADDRESS, 0),
                                 frontend{.service = 8, .flags = FRONTEND_LOAD_BALANCER}));
  for (const char* range : {"192.0.2.0/24", "198.51.100.0/25"})
    ASSERT_TRUE(maps.source_ranges.put(maps::make_source_range_key(3, Cidr::parse(range).value()), {1}));
  const auto view = services_view(maps, Names::none("no agent"));
  ASSERT_TRUE(view);
  EXPECT_THAT(view->text, HasSubstr("any-local-ipv4:8000-8007 udp  service 9  host-port,port-range"));
  EXPECT_THAT(view->text, HasSubstr("load-balancer from 192.0.2.0/24 198.51.100.0/25"));
  EXPECT_THAT(view->text, testing::Not(HasSubstr("203.0.113.1:0")));
  ASSERT_EQ(view->json.size(), 3U);
  EXPECT_EQ(view->json[1].at("source_ranges").size(), 2U);
}

TEST_F(Views, PoliciesShowWhoIsUnderThemAndWhatTheyAllow) {
  const auto view = policies_view(maps, Names::none("no agent"));
  ASSERT_TRUE(view);
  EXPECT_THAT(view->text, HasSubstr("\nset 16 (ingress of endpoint 1)\n"));
  EXPECT_THAT(view->text, HasSubstr("  anyone  tcp/80  allow    rule 5\n"));
  EXPECT_EQ(view->json.at("sets")[0].at("entries")[0].at("rule"), 5);
}

TEST_F(Views, IdentitiesEndpointsAndMaps) {
  const Names names = Names::none("no agent");
  EXPECT_THAT(identities_view(maps, names)->text, HasSubstr("256       identity 256  10.0.1.1\n"));
  EXPECT_THAT(identities_view(maps, names)->text, HasSubstr("3         world         0.0.0.0/0\n"));
  EXPECT_THAT(endpoints_view(maps, names)->text, HasSubstr("endpoint 1  open   10.0.1.1"));
  EXPECT_THAT(map_list_view(maps)->text, HasSubstr("frontends"));
  EXPECT_THAT(map_dump_view(maps, "addresses", false)->text, HasSubstr("10.0.1.1"));
  EXPECT_THAT(map_dump_view(maps, "nonsense", false).error().message, HasSubstr("there are flows, "));
}

TEST_F(Views, DropsBearTheirSentence) {
  EXPECT_EQ(drops_view(maps)->text, "nothing was dropped\n");
  ASSERT_TRUE(maps.drop_counts.put(uint32_t{HOOK_from_uplink} * DROP_REASONS_MAX + DROP_NO_ROUTE, {1, 60}));
  EXPECT_THAT(drops_view(maps)->text, HasSubstr("from_uplink  no-route"));
  EXPECT_THAT(drops_view(maps)->text, HasSubstr("The node has no route to the destination."));
}

// What audit mode let through is no drop: it stands apart, in JSON too.
TEST_F(Views, AuditedPacketsAreNoDrops) {
  ASSERT_TRUE(
      maps.audit_counts.put(uint32_t{HOOK_from_pod} * DROP_REASONS_MAX + DROP_POLICY_INGRESS, {1, 60}));
  const auto view = drops_view(maps);
  EXPECT_THAT(view->text, HasSubstr("nothing was dropped\n\nlet through"));
  EXPECT_THAT(view->text, HasSubstr("from_pod  policy-ingress"));
  ASSERT_EQ(view->json.size(), 1U);
  EXPECT_EQ(view->json[0].at("audited"), true);
  const auto status = status_view(maps, {fail("down"), nlohmann::json::array()});
  EXPECT_EQ(status->json.at("datapath").at("packets_dropped"), 0);
  EXPECT_EQ(status->json.at("datapath").at("packets_audited"), maps::possible_cpus());
}

TEST_F(Views, StatusTellsThatTheAgentIsDown) {
  const auto view = status_view(maps, {fail("no agent answers at X"), nlohmann::json::array()});
  ASSERT_TRUE(view);
  EXPECT_THAT(view->text, HasSubstr("agent: down (no agent answers at X)"));
  EXPECT_THAT(view->text, HasSubstr("flows:               2 of 32"));
  EXPECT_EQ(view->json.at("agent").at("running"), false);
}

TEST_F(Views, StatusShowsTheAgentAndItsProblems) {
  const auto view = status_view(
      maps, {nlohmann::ordered_json{
                 {"ready", true}, {"pod_cidrs", {"10.0.1.0/24", "fd00:1::/64"}}, {"maps", {{"a", 1}}}},
             nlohmann::json::parse(
                 R"([{"from": "source", "source": "web.yaml", "line": 7, "text": "web.yaml:7: bad"},
                                       {"from": "services", "source": "a.yaml", "line": 3, "text": "claimed twice"},
                                       {"from": "maps", "object": "endpoint default/web",
                                        "text": "policy set 17 does not fit the map; the policy before it stays"},
                                       {"from": "node", "text": "no route"}])")});
  ASSERT_TRUE(view);
  EXPECT_THAT(view->text, HasSubstr("agent: running\n"
                                    "  ready:               yes\n"
                                    "  pod cidrs:           10.0.1.0/24 fd00:1::/64\n"
                                    "  web.yaml:7: bad\n"
                                    "  a.yaml:3: claimed twice\n"
                                    "  endpoint default/web: policy set 17 does not fit the map; the policy "
                                    "before it stays\n"
                                    "  no route\n"));
  EXPECT_EQ(view->json.at("agent").at("problems").size(), 4U);
}

}  // namespace
}  // namespace bpfnet::observe
