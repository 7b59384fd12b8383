// ns per packet of every hook and path, beside an empty program and one 40-byte hash lookup in the same run.
//
// Every program hangs in the same frame (bench.bpf.c), which writes the packet anew before each repetition;
// the empty program's time is that frame's. Usage: packets [--benchmark_filter=REGEX]
#include <benchmark/benchmark.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/pkt_cls.h>
#include <sched.h>

#include <algorithm>
#include <cstring>

#include "bench.skel.h"
#include "bench/frame.h"
#include "bench/paths.h"
#include "bench/report.h"
#include "maps/convert.h"

namespace bpfnet::bench {
namespace {

using test::must;
using test::Node;

constexpr int kRepeatEstablished = 200'000;
/// New flows of one run; the table holds them all and the source port tells them apart.
constexpr int kRepeatNew = 10'000;
constexpr uint32_t kLargeTable = 16'384;
constexpr uint16_t kTunnelPort = 4789;
constexpr uint32_t kVni = 1;
constexpr uint32_t kTunnelSource = 0xc0000202;  // node 2

class Frame {
 public:
  Frame() : skeleton_(bench_bpf__open_and_load()) {
    if (!skeleton_) throw std::runtime_error("the benchmark's programs do not load: " + errno_name(errno));
    const flow_key key{.saddr = {}, .daddr = {}, .sport = 1};
    const flow value{};
    bpf_map_update_elem(bpf_map__fd(skeleton_->maps.yardstick), &key, &value, BPF_ANY);
    const address_key address{.addr = {}, .net = 1, .pad = 0};
    const address_info info{};
    bpf_map_update_elem(bpf_map__fd(skeleton_->maps.identities), &address, &info, BPF_ANY);
  }
  ~Frame() { bench_bpf__destroy(skeleton_); }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  [[nodiscard]] int empty(bool xdp) const {
    return bpf_program__fd(xdp ? skeleton_->progs.empty_xdp : skeleton_->progs.empty_tc);
  }
  [[nodiscard]] int tunnel() const { return bpf_program__fd(skeleton_->progs.tunnel_tc); }
  [[nodiscard]] int address() const { return bpf_program__fd(skeleton_->progs.address_tc); }
  [[nodiscard]] int lookup(bool xdp) const {
    return bpf_program__fd(xdp ? skeleton_->progs.lookup_xdp : skeleton_->progs.lookup_tc);
  }

  /// Hangs `program` into the frame and sets the packet.
  void load(bool xdp, int program, const test::Bytes& packet, uint32_t vary, bool by_tunnel = false) {
    const uint32_t zero = 0;
    bench_frame record{};
    std::memcpy(record.headers, packet.data(), std::min<size_t>(packet.size(), sizeof(record.headers)));
    record.vary = vary;
    if (by_tunnel) {
      record.tunnel_source = kTunnelSource;
      record.tunnel_vni = kVni;
    }
    bpf_map_update_elem(bpf_map__fd(skeleton_->maps.frame), &zero, &record, BPF_ANY);
    const int targets = bpf_map__fd(xdp ? skeleton_->maps.target_xdp : skeleton_->maps.target_tc);
    if (bpf_map_update_elem(targets, &zero, &program, BPF_ANY) != 0) {
      throw std::runtime_error("the program cannot be tail-called: " + errno_name(errno));
    }
  }

  /// ns per packet over `repeat` packets, by the kernel's clock; `code` is what the last one returned.
  double run(Node& node, bool xdp, const std::string& device, const test::Bytes& packet, int repeat,
             int& code) {
    static test::Bytes output(1 << 16);
    __sk_buff skb{};
    skb.ifindex = node.ifindex(device);
    xdp_md md{};
    md.ingress_ifindex = node.ifindex(device);
    md.data_end = static_cast<uint32_t>(packet.size());
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.data_in = packet.data();
    options.data_size_in = static_cast<uint32_t>(packet.size());
    options.data_out = output.data();
    options.data_size_out = static_cast<uint32_t>(output.size());
    options.ctx_in = xdp ? static_cast<void*>(&md) : &skb;
    options.ctx_size_in = xdp ? sizeof(md) : sizeof(skb);
    options.repeat = repeat;
    const test::Netns::Inside inside(node.netns());
    const int program = bpf_program__fd(xdp ? skeleton_->progs.frame_xdp : skeleton_->progs.frame_tc);
    if (const int error = bpf_prog_test_run_opts(program, &options); error != 0) {
      throw std::runtime_error("BPF_PROG_TEST_RUN: " + errno_name(error));
    }
    code = static_cast<int>(options.retval);
    return options.duration;
  }

 private:
  bench_bpf* skeleton_;
};

std::unique_ptr<Node> make_node(uint32_t max_flows, bool overlay = false) {
  auto config = test::default_config();
  config.trace = 0;
  config.max_flows = max_flows;
  config.masquerade_port_first = 1024;
  config.masquerade_port_last = 65535;
  if (overlay) {
    config.overlay_port = maps::to_network(kTunnelPort);
    config.overlay_vni = kVni;
  }
  return must(Node::create(1, config));
}

struct Bench {
  Frame frame;
  std::unique_ptr<Node> small = make_node(256);
  std::unique_ptr<Node> large = make_node(kLargeTable);
  std::unique_ptr<Node> small_overlay = make_node(256, true);
  std::unique_ptr<Node> large_overlay = make_node(kLargeTable, true);

  Node& node_for(const Path& path) {
    if (path.overlay) return path.new_flow ? *large_overlay : *small_overlay;
    return path.new_flow ? *large : *small;
  }
};

void measure_yardstick(benchmark::State& state, Bench& bench, bool xdp, bool lookup) {
  const test::Actors who(Family::kIpv4);
  const test::Bytes packet = (test::Eth{} / test::Ip{.src = who.client, .dst = who.server} / test::Tcp{} /
                              test::Payload::of_size(64))
                                 .bytes();
  bench.frame.load(xdp, lookup ? bench.frame.lookup(xdp) : bench.frame.empty(xdp), packet, 0);
  int code = 0;
  for (auto _ : state) {
    const double ns = bench.frame.run(*bench.small, xdp, "uplink", packet, kRepeatEstablished, code);
    state.SetIterationTime(ns * 1e-9);
  }
}

void measure_tunnel_yardstick(benchmark::State& state, Bench& bench, int program, bool by_tunnel) {
  const test::Actors who(Family::kIpv4);
  const test::Bytes packet = (test::Eth{} / test::Ip{.src = who.client, .dst = who.server} / test::Tcp{} /
                              test::Payload::of_size(64))
                                 .bytes();
  bench.frame.load(false, program, packet, 0, by_tunnel);
  int code = 0;
  for (auto _ : state) {
    const double ns = bench.frame.run(*bench.small, false, "uplink", packet, kRepeatEstablished, code);
    state.SetIterationTime(ns * 1e-9);
  }
}

const char* program_name(int hook) {
  switch (hook) {
#define X(number, name) \
  case number:          \
    return #name;
    HOOKS(X)
#undef X
    default:
      return "";
  }
}

void measure_path(benchmark::State& state, Bench& bench, const Path& path) {
  Node& node = bench.node_for(path);
  const test::Actors who(path.family);
  const bool xdp = path.hook == HOOK_xdp_uplink;
  const uint32_t vary = path.new_flow ? (who.v4() ? 34 : 54) : 0;
  for (auto _ : state) {
    node.reset();
    const test::Bytes packet = path.prepare(node, who).bytes();
    bench.frame.load(xdp, node.program_fd(program_name(path.hook)), packet, vary,
                     path.hook == HOOK_from_overlay);
    int code = 0;
    bench.frame.run(node, xdp, path.device, packet, 100, code);
    const int repeat = path.new_flow ? kRepeatNew : kRepeatEstablished;
    state.SetIterationTime(bench.frame.run(node, xdp, path.device, packet, repeat, code) * 1e-9);
    if (!xdp && code == TC_ACT_SHOT) state.SkipWithError("the packet is dropped");
  }
}

/// One CPU for the whole run: figures of two would be bimodal.
void pin() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(1, &cpus);
  sched_setaffinity(0, sizeof(cpus), &cpus);
}

int run(int argc, char** argv) {
  if (const std::string reason = test::why_no_bpf(); !reason.empty()) {
    fmt::print(stderr, "packets: needs root and BPF: {}\n", reason);
    return 1;
  }
  pin();
  benchmark::Initialize(&argc, argv);
  Bench bench;
  std::vector<std::string> names;
  const auto add = [&names](const std::string& name, auto body) {
    names.push_back(name);
    benchmark::RegisterBenchmark(name.c_str(), body)->UseManualTime()->Iterations(2)->Repetitions(9);
  };
  for (const bool xdp : {false, true}) {
    const std::string kind = xdp ? "xdp" : "tc";
    add("empty_" + kind, [&bench, xdp](benchmark::State& s) { measure_yardstick(s, bench, xdp, false); });
    add("lookup_" + kind, [&bench, xdp](benchmark::State& s) { measure_yardstick(s, bench, xdp, true); });
  }
  const auto add_tunnel = [&](const char* name, int program, bool by_tunnel) {
    add(name, [&bench, program, by_tunnel](benchmark::State& s) {
      measure_tunnel_yardstick(s, bench, program, by_tunnel);
    });
  };
  add_tunnel("empty_tunnel", bench.frame.empty(false), true);
  add_tunnel("source_tunnel", bench.frame.tunnel(), true);
  add_tunnel("lookup_identity_tc", bench.frame.address(), false);
  for (const Path& path : all_paths()) {
    add(path.name, [&bench, path](benchmark::State& s) { measure_path(s, bench, path); });
  }
  Report report(std::move(names));
  benchmark::RunSpecifiedBenchmarks(&report);
  report.print();
  return 0;
}

}  // namespace
}  // namespace bpfnet::bench

int main(int argc, char** argv) {
  return bpfnet::bench::run(argc, argv);
}
