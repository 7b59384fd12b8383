#include "tests/support/node.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "bpfnet.skel.h"
#include "maps/convert.h"
#include "tests/support/must.h"

namespace bpfnet::test {
namespace {

constexpr size_t kMaxPacket = 1 << 16;

/// Small maps: a test node holds a handful of everything.
constexpr uint32_t kSmall = 256;

const char* hook_name(int hook) {
  switch (hook) {
#define X(number, name) \
  case number:          \
    return #name;
    HOOKS(X)
#undef X
    default:
      return "?";
  }
}

std::map<int, uint64_t> counted(const std::vector<packet_count>& before,
                                const std::vector<packet_count>& after, int hook, int width) {
  std::map<int, uint64_t> result;
  for (int i = 0; i < width; ++i) {
    const auto index = static_cast<size_t>(hook) * static_cast<size_t>(width) + static_cast<size_t>(i);
    const uint64_t delta = after[index].packets - before[index].packets;
    if (delta != 0) result[i] = delta;
  }
  return result;
}

}  // namespace

std::map<int, int>& seen_drop_reasons() {
  static std::map<int, int> seen;
  return seen;
}

flow_key key(const Address& src, uint16_t sport, const Address& dst, uint16_t dport, uint8_t proto) {
  return maps::make_flow_key(src, sport, dst, dport, proto);
}

int Node::on_event(void* context, void* data, size_t size) {
  if (size != sizeof(packet_event)) return 0;
  packet_event event;
  std::memcpy(&event, data, sizeof(event));
  static_cast<Node*>(context)->events_.push_back(event);
  return 0;
}

Result<std::unique_ptr<Node>> Node::create(int number, const datapath_config& config) {
  auto netns = Netns::create();
  if (!netns) return pass(netns);
  std::unique_ptr<Node> node(new Node(number, std::move(*netns)));
  node->config_ = config;
  BPFNET_TRY(node->make_devices());
  BPFNET_TRY(node->load(config));
  return node;
}

Node::~Node() {
  if (ring_) ring_buffer__free(ring_);
  if (skeleton_) bpfnet_bpf__destroy(skeleton_);
}

Status Node::load(const datapath_config& config) {
  config_ = config;
  config_.host_ifindex = ifindex("bpfnet0");
  config_.router_ifindex = ifindex("bpfnet1");
  config_.host_mac = maps::to_abi(device_mac("bpfnet0"));
  config_.primary_uplink = ifindex("uplink");
  if (config_.overlay_port != 0) config_.overlay_ifindex = ifindex("bpfnet3");
  skeleton_ = bpfnet_bpf__open();
  if (!skeleton_) return fail_errno(errno, "open the datapath skeleton");
  std::memcpy(const_cast<datapath_config*>(&skeleton_->rodata->config), &config_, sizeof(config_));
  const std::map<std::string, uint32_t> sizes = {
      {"flows", 2 * config.max_flows}, {"flow_slots", config.max_flows},
      {"flow_free", config.max_flows}, {"endpoints", kSmall},
      {"endpoint_usage", kSmall},      {"interfaces", kSmall},
      {"addresses", kSmall},           {"cidrs", kSmall},
      {"frontends", kSmall},           {"backend_slots", 4 * kSmall},
      {"frontend_ranges", kSmall},     {"source_ranges", kSmall},
      {"affinities", kSmall},          {"backend_states", kSmall},
      {"policies", 1U << 17},  // costs memory for what is in it
      {"fragments", kSmall},           {"events", 1U << 20}};
  for (const auto& [name, size] : sizes) {
    bpf_map* map = bpf_object__find_map_by_name(skeleton_->obj, name.c_str());
    if (!map) return fail("the datapath has no map '{}'", name);
    if (bpf_map__set_max_entries(map, size) != 0) return fail_errno(errno, "size map {}", name);
  }
  if (const int error = bpfnet_bpf__load(skeleton_); error != 0)
    return fail_errno(error, "load the datapath");
  auto typed = maps::Maps::from_fds(
      [&](const char* name) { return bpf_map__fd(bpf_object__find_map_by_name(skeleton_->obj, name)); });
  if (!typed) return pass(typed);
  maps_ = std::move(*typed);
  ring_ = ring_buffer__new(maps_.events.fd(), on_event, this, nullptr);
  if (!ring_) return fail_errno(errno, "open the event ring");
  BPFNET_TRY(maps_.node_config.put(0, config_));
  reset();
  return ok();
}

int Node::program_fd(const std::string& name) const {
  const bpf_program* program = bpf_object__find_program_by_name(skeleton_->obj, name.c_str());
  if (!program) throw std::runtime_error("the datapath has no program " + name);
  return bpf_program__fd(program);
}

Result<Outcome> Node::try_run(enum hook hook, const std::string& device, const Bytes& bytes,
                              RunOptions options) {
  static Bytes output(kMaxPacket);
  const bool xdp = hook == HOOK_xdp_uplink;
  __sk_buff skb{};
  skb.ifindex = ifindex(device);
  skb.mark = options.mark;
  skb.gso_size = options.gso_size;
  xdp_md md{};
  md.ingress_ifindex = ifindex(device);
  md.data_end = static_cast<uint32_t>(bytes.size());
  bpf_test_run_opts run_options{};
  run_options.sz = sizeof(run_options);
  run_options.data_in = bytes.data();
  run_options.data_size_in = static_cast<uint32_t>(bytes.size());
  run_options.data_out = output.data();
  run_options.data_size_out = static_cast<uint32_t>(output.size());
  run_options.ctx_in = xdp ? static_cast<void*>(&md) : &skb;
  run_options.ctx_out = xdp ? static_cast<void*>(&md) : &skb;
  run_options.ctx_size_in = xdp ? sizeof(md) : sizeof(skb);
  run_options.ctx_size_out = run_options.ctx_size_in;
  run_options.repeat = 1;

  std::vector<packet_count> verdicts;
  std::vector<packet_count> drops;
  std::vector<packet_count> audits;
  size_t flows = 0;
  if (!options.light) {
    verdicts = must(maps_.verdict_counts.sums());
    drops = must(maps_.drop_counts.sums());
    audits = must(maps_.audit_counts.sums());
    flows = must(maps_.flows.entries()).size();
  }
  events_.clear();
  const int error = [&] {
    const Netns::Inside inside(netns_);
    return bpf_prog_test_run_opts(program_fd(hook_name(hook)), &run_options);
  }();
  if (error != 0) return fail_errno(error, "run {}", hook_name(hook));
  ring_buffer__consume(ring_);

  Outcome run;
  run.code = static_cast<int>(run_options.retval);
  run.bytes.assign(output.begin(), output.begin() + run_options.data_size_out);
  run.mark = xdp ? 0 : skb.mark;
  if (!events_.empty()) run.event = events_.back();
  if (run.event && run.event->verdict == VERDICT_DROP) ++seen_drop_reasons()[run.event->reason];
  if (!options.light) {
    run.packet = Packet::parse(run.bytes);
    run.verdicts = counted(verdicts, must(maps_.verdict_counts.sums()), hook, VERDICTS_MAX);
    run.drops = counted(drops, must(maps_.drop_counts.sums()), hook, DROP_REASONS_MAX);
    run.audits = counted(audits, must(maps_.audit_counts.sums()), hook, DROP_REASONS_MAX);
    run.flow_delta = static_cast<int>(must(maps_.flows.entries()).size()) - static_cast<int>(flows);
  }
  return run;
}

Outcome Node::run(enum hook hook, const std::string& device, const Packet& packet, RunOptions options) {
  return must(try_run(hook, device, packet.bytes(), options));
}

std::map<std::string, flow> Node::flows() const {
  std::map<std::string, flow> result;
  for (const auto& [flow_key, value] : must(maps_.flows.entries())) result[maps::key_text(flow_key)] = value;
  return result;
}

std::optional<flow> Node::find_flow(const flow_key& key) const {
  return must(maps_.flows.get(key));
}

void Node::age_flow(const flow_key& key, uint32_t ticks) {
  for (const flow_key& each : {key, find_flow(key).value().peer})
    change_flow(each, [ticks](flow& record) { record.last_seen -= ticks; });
}

flow_table Node::table() const {
  return must(maps_.flow_table_state.get(0));
}

void Node::start_expiry() {
  const Bytes packet = (Eth{} / Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2")} / Udp{}).bytes();
  bpf_test_run_opts options{};
  options.sz = sizeof(options);
  options.data_in = packet.data();
  options.data_size_in = static_cast<uint32_t>(packet.size());
  options.repeat = 1;
  if (bpf_prog_test_run_opts(program_fd("flow_timer_start"), &options) != 0 || options.retval != 0) {
    throw std::runtime_error("flow_timer_start failed: " + std::to_string(static_cast<int>(options.retval)));
  }
}

void Node::reset() {
  must(maps_.flows.clear());
  while (must(maps_.flow_free.pop())) {
  }
  must(maps_.flow_table_state.put(0, flow_table{}));
  must(maps_.flow_slots.put_range(0, std::vector<flow_slot>(maps_.flow_slots.max_entries())));
  for (uint32_t i = 0; i < 16; ++i) {
    must(maps_.endpoints.put(i, endpoint{}));
    must(maps_.endpoint_usages.put(i, endpoint_usage{}));
  }
  must(maps_.interfaces.clear());
  must(maps_.addresses.clear());
  must(maps_.cidrs.clear());
  for (uint16_t i = 0; i < 16; ++i) must(maps_.nodes.put(i, ::node{}));
  must(maps_.frontends.clear());
  must(maps_.frontend_ranges.clear());
  must(maps_.source_ranges.clear());
  must(maps_.affinities.clear());
  must(maps_.policies.clear());
  next_slot_ = 0;
  next_backend_ = 1;
  add_devices();
  add_actors();
}

}  // namespace bpfnet::test
