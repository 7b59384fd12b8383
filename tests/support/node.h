#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "maps/maps.h"
#include "tests/support/actors.h"
#include "tests/support/must.h"
#include "tests/support/netns.h"
#include "tests/support/packet.h"

struct bpfnet_bpf;
struct ring_buffer;

namespace bpfnet::test {

/// Tests speak of ticks of 262 s: nothing happens by the passing of time unless a test moves the clock.
datapath_config default_config();

/// A pod on the node: endpoint `index` behind the veth pair pod<index>.
struct PodSpec {
  uint32_t index = 0;
  std::vector<Address> addresses;
  uint32_t identity = 0;
  uint32_t ingress_set = POLICY_SET_ALLOW_ALL;
  uint32_t egress_set = POLICY_SET_ALLOW_ALL;
  uint8_t state = ENDPOINT_OPEN;
};

struct BackendSpec {
  Address address;
  uint16_t port = 0;
};

struct ServiceSpec {
  Address address;
  uint16_t port = 0;
  uint8_t proto = 6;
  std::vector<BackendSpec> backends;
  uint32_t flags = FRONTEND_CLUSTER_IP;
  uint8_t scope = SCOPE_ADDRESS;
  /// For clients outside; nullopt: the same as for those inside.
  std::optional<std::vector<BackendSpec>> outside_backends = {};
  uint32_t id = 1;
  uint32_t source_set = 0;      ///< see Node::add_source_range
  uint32_t affinity_ticks = 0;  ///< with FRONTEND_AFFINITY
  uint8_t port_bits = 16;       ///< below 16: a block of ports that begins at `port`
  uint16_t range_first = 0;     ///< with FRONTEND_PORT_RANGE
};

/// What one packet through one program did.
struct Outcome {
  int code = 0;  ///< TC_ACT_* or XDP_*
  Bytes bytes;
  Packet packet;  ///< `bytes` decoded; empty in a light run
  uint32_t mark = 0;
  std::optional<packet_event> event;  ///< the trace event of this packet; nullopt: the program sent none
  std::map<int, uint64_t> verdicts;   ///< packets counted by this run, by enum verdict
  std::map<int, uint64_t> drops;      ///< and by enum drop_reason
  std::map<int, uint64_t> audits;     ///< let through by audit mode, by what they would be dropped for
  int flow_delta = 0;                 ///< entries added to the flow table less entries removed

  [[nodiscard]] int verdict() const { return event ? event->verdict : -1; }
  [[nodiscard]] int reason() const { return event ? event->reason : -1; }
};
void PrintTo(const Outcome& run, std::ostream* out);

struct RunOptions {
  uint32_t mark = 0;  ///< at from_overlay the node's own: a packet without a tunnel is from its source's node
  uint32_t gso_size = 0;
  bool light = false;  ///< leave out counters, flow delta and decoding: for thousands of runs
};

/// One node: a netns with the devices of the brief, the datapath loaded with small maps, the standard actors.
/// Devices: bpfnet0, bpfnet1, uplink (to `uplinkp`), pod1..pod4 (to `pod1p`..), and bpfnet3 where the
/// configuration has an overlay_port.
class Node {
 public:
  /// `number` 1 or 2: which of the actors it is.
  static Result<std::unique_ptr<Node>> create(int number, const datapath_config& config);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Empty maps, then the standard actors: on node 1 `client` is pod 1 and `server` pod 2, on node 2 `remote`
  /// is pod 1; the others are known as remote pods and nodes.
  void reset();

  Outcome run(enum hook hook, const std::string& device, const Packet& packet, RunOptions options = {});
  /// BPF_PROG_TEST_RUN on bytes as they are; errno when the kernel refuses to build such a packet.
  Result<Outcome> try_run(enum hook hook, const std::string& device, const Bytes& bytes,
                          RunOptions options = {});

  void add_pod(const PodSpec& pod);
  /// `on`: index of its node; 0: the other one of the two.
  void add_remote_pod(const Address& address, uint32_t identity, uint16_t on = 0);
  /// Another node, reached by a tunnel from `source`; `addr` 0.0.0.0: not reached.
  void add_tunnel(uint16_t index, const Address& addr, const Address& source, uint16_t mtu = 1450);
  /// What other nodes are: their numbers are their indices.
  [[nodiscard]] uint16_t other() const { return static_cast<uint16_t>(3 - number_); }
  /// `index`: of another node; 0: the other one of the two.
  void add_node_address(const Address& address, uint16_t flags, uint16_t index = 0);
  /// The id of the first backend; the others follow, those of the outside run behind those of the inside.
  uint32_t add_service(const ServiceSpec& service);
  /// Lets `range` use the frontends of `set`.
  void add_source_range(uint32_t set, const Cidr& range);
  /// proto 0: any protocol; port_bits 0: any port.
  void add_policy(uint32_t set, uint32_t identity, uint8_t proto, uint16_t port, uint8_t port_bits = 16,
                  uint32_t rule = 1, uint8_t verdict = POLICY_ALLOW);
  void add_cidr(const Cidr& prefix, uint32_t identity, uint32_t flags = 0, uint16_t node = 0);
  /// Reads, changes and writes an endpoint record.
  template <typename Change>
  void change_pod(uint32_t index, Change change) {
    auto record = must(maps().endpoints.get(index));
    change(record);
    must(maps().endpoints.put(index, record));
  }

  [[nodiscard]] std::map<std::string, flow> flows() const;
  [[nodiscard]] std::optional<flow> find_flow(const flow_key& key) const;
  /// Reads, changes and writes one entry of the flow table.
  template <typename Change>
  void change_flow(const flow_key& key, Change change) {
    flow record = find_flow(key).value();
    change(record);
    must(maps().flows.put(key, record));
  }
  /// Moves the last packet of both directions `ticks` into the past.
  void age_flow(const flow_key& key, uint32_t ticks);
  [[nodiscard]] flow_table table() const;
  /// Starts the kernel's expiry; such a node cannot be reset.
  void start_expiry();
  /// The kernel takes this descriptor's program: benchmarks call BPF_PROG_TEST_RUN themselves.
  [[nodiscard]] int program_fd(const std::string& name) const;

  [[nodiscard]] maps::Maps& maps() { return maps_; }
  [[nodiscard]] const maps::Maps& maps() const { return maps_; }
  [[nodiscard]] const Netns& netns() const { return netns_; }
  [[nodiscard]] const datapath_config& config() const { return config_; }
  [[nodiscard]] uint32_t ifindex(const std::string& device) const { return ifindexes_.at(device); }
  [[nodiscard]] Mac device_mac(const std::string& device) const { return macs_.at(device); }

  static Mac pod_mac(uint32_t index) { return Mac{{0x02, 0xbb, 0, 0, 0, static_cast<uint8_t>(index)}}; }
  static Mac node_mac(int number) { return Mac{{0x02, 0xaa, 0, 0, 0, static_cast<uint8_t>(number)}}; }
  static Mac gateway_mac() { return Mac{{0x02, 0xaa, 0, 0, 0, 0xfe}}; }

 private:
  Node(int number, Netns netns) : number_(number), netns_(std::move(netns)) {}
  Status make_devices();
  Status load(const datapath_config& config);
  void add_actors();
  void add_devices();

  int number_;
  Netns netns_;
  datapath_config config_{};
  bpfnet_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  std::vector<packet_event> events_;
  maps::Maps maps_;
  std::map<std::string, uint32_t> ifindexes_;
  std::map<std::string, Mac> macs_;
  uint32_t next_slot_ = 0;
  uint32_t next_backend_ = 1;
  static int on_event(void* context, void* data, size_t size);
};

/// Every drop reason any node of this process has seen.
std::map<int, int>& seen_drop_reasons();

/// Tuples in host terms: `key(client, 40000, server, 8080, IPPROTO_TCP)`.
flow_key key(const Address& src, uint16_t sport, const Address& dst, uint16_t dport, uint8_t proto);

}  // namespace bpfnet::test
