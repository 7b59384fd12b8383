// Two nodes, an outside client and a far host on this machine, wired by bpfnet: each claim is printed beside
// what was seen. Run by scripts/demo.
#include <fmt/color.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/support/cluster/cluster.h"

namespace {

using namespace bpfnet;
using namespace bpfnet::e2e;

constexpr uint16_t kOutsidePort = 9090;

ServiceManifest web_service(const std::vector<BackendManifest>& backends) {
  ServiceManifest service;
  service.name = "web";
  service.cluster_ips = {Address::parse("10.96.0.10").value(), Address::parse("fd00:10:96::10").value()};
  service.ports = {{"tcp", "TCP", 80, Pod::kPort, 30080}, {"udp", "UDP", 80, Pod::kPort, 30080}};
  service.backends = backends;
  return service;
}

constexpr const char* kPolicy =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web-only-for-friends, "
    "namespace: default}\n"
    "spec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Ingress]\n  ingress:\n"
    "  - from: [{podSelector: {matchLabels: {friend: \"yes\"}}}]\n    ports: [{protocol: TCP, port: 8080}]\n";

/// Prints claims and counts the ones that do not hold.
class Report {
 public:
  explicit Report(bool color) : color_(color) {}

  void heading(const std::string& text) const { fmt::print("\n{}\n", paint(text, fmt::emphasis::bold)); }
  void row(const std::string& claim, bool holds, const std::string& saw) {
    failures_ += holds ? 0 : 1;
    const auto mark =
        holds ? paint("ok  ", fg(fmt::terminal_color::green)) : paint("FAIL", fg(fmt::terminal_color::red));
    fmt::print("  {} {:<62} {}\n", mark, claim, saw);
    std::fflush(stdout);
  }
  void answered(const std::string& claim, const Result<Seen>& seen, const std::string& server,
                const Address& source) {
    const bool holds = seen && (server.empty() || seen->server == server) && seen->peer.address == source;
    row(claim, holds,
        seen ? fmt::format("{} saw {}", seen->server, seen->peer.address.to_string()) : seen.error().message);
  }
  [[nodiscard]] int failures() const { return failures_; }

 private:
  [[nodiscard]] std::string paint(const std::string& text, const fmt::text_style& style) const {
    return color_ ? fmt::format(style, "{}", text) : text;
  }
  bool color_;
  int failures_ = 0;
};

class Demo {
 public:
  explicit Demo(const ClusterOptions& options) : cluster_(options), report_(::isatty(STDOUT_FILENO) == 1) {}

  int run() {
    build();
    for (const auto family : {Family::kIpv4, Family::kIpv6}) show_paths(family);
    show_errors();
    show_policy();
    show_restart();
    show_views();
    report_.heading(report_.failures() == 0 ? "Every claim holds."
                                            : fmt::format("{} claims do not hold.", report_.failures()));
    return report_.failures() == 0 ? 0 : 1;
  }

  void tell_how_to_look() {
    const Node& node = cluster_.node(0);
    fmt::print("\nAll of it stays. To look around:\n");
    fmt::print("  {}\n", fmt::join(node.ctl_argv({"service", "list"}), " "));
    fmt::print("  {}\n", fmt::join(node.ctl_argv({"flow", "list"}), " "));
    fmt::print("  nsenter --net={} ping -c 1 {}\n", cluster_.pod("client").netns().path(),
               cluster_.pod("web-2").ip(Family::kIpv4).to_string());
    fmt::print("  ls {}    # manifests: change one and see\n  less {}\n", node.dir("manifests"),
               node.dir("bpfnetd.log"));
    fmt::print("To remove it:\n  scripts/demo --remove\n");
  }

 private:
  Node& node(size_t index) { return cluster_.node(index); }
  Pod& pod(const std::string& name) { return cluster_.pod(name); }
  Network& network() { return cluster_.network(); }

  void build() {
    report_.heading("Two nodes, one agent each; pods wired by bpfnet-cni");
    for (const auto& [name, at, labels] :
         {std::tuple<std::string, size_t, LabelMap>{"web-1", 0, {{"app", "web"}}},
          {"client", 0, {{"app", "client"}}},
          {"web-2", 1, {{"app", "web"}}},
          {"friend", 1, {{"app", "client"}, {"friend", "yes"}}}}) {
      const auto start = std::chrono::steady_clock::now();
      Pod& made = cluster_.add_pod(at, name, {.labels = labels});
      const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
      report_.row(fmt::format("pod {} on {}", name, node(at).name()), true,
                  fmt::format("{}  {}  ({:.0f} ms, manifests included)", made.ip(Family::kIpv4).to_string(),
                              made.ip(Family::kIpv6).to_string(), took.count()));
    }
    cluster_.apply("web", web_service({cluster_.backend("web-1"), cluster_.backend("web-2")}).yaml());
    report_.row("service web, ports 80 TCP and UDP, NodePort 30080", true, "10.96.0.10  fd00:10:96::10");
  }

  void show_paths(Family family) {
    report_.heading(family == Family::kIpv4 ? "Paths, IPv4: who answered, and which source it saw"
                                            : "Paths, IPv6: who answered, and which source it saw");
    const EchoServer on_host(node(0).netns(), "node-a", kOutsidePort);
    const EchoServer on_far(network().far().netns(), "far", kOutsidePort);
    const Netns& client = pod("client").netns();
    const Address client_ip = pod("client").ip(family);
    const Address node_a = node(0).ip(family);
    const auto web = web_service({}).cluster_ips.at(family == Family::kIpv4 ? 0 : 1);
    Host& outside = network().client();
    for (const std::string protocol : {"tcp", "udp"}) {
      report_.answered(protocol + ": pod -> pod, one node: source kept",
                       ask(client, protocol, {pod("web-1").ip(family), Pod::kPort}), "web-1", client_ip);
      report_.answered(protocol + ": pod -> pod, other node: source kept",
                       ask(client, protocol, {pod("web-2").ip(family), Pod::kPort}), "web-2", client_ip);
      report_.answered(protocol + ": pod -> its host: source kept",
                       ask(client, protocol, {node_a, kOutsidePort}), "node-a", client_ip);
      report_.answered(protocol + ": host -> its pod",
                       ask(node(0).netns(), protocol, {pod("web-1").ip(family), Pod::kPort}), "web-1",
                       node_a);
      report_.answered(protocol + ": pod -> far host: the node's address (masquerade)",
                       ask(client, protocol, {network().far().ip(family), kOutsidePort}), "far", node_a);
      report_.answered(protocol + ": pod -> ClusterIP: source kept", ask(client, protocol, {web, 80}), "",
                       client_ip);
      report_.answered(protocol + ": host process -> ClusterIP", ask(node(0).netns(), protocol, {web, 80}),
                       "", node_a);
      const auto node_port = ask(outside.netns(), protocol, {node_a, 30080});
      // A backend on the asked node sees the client, one on the other node sees the asked node.
      report_.answered(protocol + ": outside -> NodePort", node_port, "",
                       node_port && node_port->server == "web-2" ? node_a : outside.ip(family));
    }
    const auto pong = ping(client, network().far().ip(family));
    report_.row("echo: pod -> far host and back", pong.has_value(),
                pong ? fmt::format("reply from {}, hop limit {}", pong->from.to_string(), pong->ttl)
                     : pong.error().message);
  }

  void show_errors() {
    report_.heading("ICMP errors find their socket through translation");
    const HostPort closed{network().far().ip(Family::kIpv4), 9};
    auto refused = UdpClient::open(pod("client").netns(), closed).value();
    const auto unreachable = refused.send("x") ? refused.error() : Result<IcmpError>(fail("not sent"));
    report_.row(
        "port unreachable, through masquerade", unreachable && unreachable->code == ECONNREFUSED,
        unreachable ? "ECONNREFUSED from " + unreachable->offender.to_string() : unreachable.error().message);
    auto large = UdpClient::open(pod("client").netns(), closed).value();
    large.dont_fragment();
    const auto too_big =
        large.send(std::string(Network::kFarMtu, 'x')) ? large.error() : Result<IcmpError>(fail("not sent"));
    report_.row(fmt::format("fragmentation needed, through masquerade: MTU {}", Network::kFarMtu),
                too_big && too_big->mtu == Network::kFarMtu,
                too_big ? fmt::format("EMSGSIZE, MTU {} from {}", too_big->mtu, too_big->offender.to_string())
                        : too_big.error().message);
  }

  void show_policy() {
    report_.heading("NetworkPolicy: web is open to pods labelled friend=yes, TCP 8080");
    const HostPort web{pod("web-1").ip(Family::kIpv4), Pod::kPort};
    const SocketOptions brief{.timeout = milliseconds(300)};
    auto live = TcpClient::connect(pod("client").netns(), web, brief).value();
    cluster_.apply("policy", kPolicy);
    const auto told = [](const auto& result) {
      return result ? std::string("answered") : result.error().message;
    };
    const auto cut = live.echo("after");
    report_.row("a live connection it denies is cut at its next packet", !cut, told(cut));
    const auto denied = ask(pod("client").netns(), "tcp", web, brief);
    report_.row("client (no label) is denied", !denied, told(denied));
    const auto allowed = ask(pod("friend").netns(), "tcp", web, brief);
    report_.row("friend is let in", allowed.has_value(), told(allowed));
    const auto udp = ask(pod("friend").netns(), "udp", web, brief);
    report_.row("friend by UDP is denied", !udp, told(udp));
    const auto probe = ask(node(0).netns(), "tcp", web, brief);
    report_.row("the node's own probes are let in", probe.has_value(), told(probe));
    cluster_.remove("policy");
  }

  void show_restart() {
    report_.heading("The agent of node-a is killed (SIGKILL) and started again");
    const HostPort web{Address::parse("10.96.0.10").value(), 80};
    std::vector<TcpClient> clients;
    for (int i = 0; i < 100; i++) clients.push_back(TcpClient::connect(pod("client").netns(), web).value());
    const auto alive = [&] {
      int count = 0;
      uint32_t retransmits = 0;
      for (auto& client : clients) {
        count += client.echo("still here?") ? 1 : 0;
        retransmits += client.retransmits();
      }
      return std::pair{count, retransmits};
    };
    node(0).kill_agent();
    const auto [during, lost] = alive();
    report_.row("100 connections through the service, agent dead", during == 100 && lost == 0,
                fmt::format("{} alive, {} segments sent again", during, lost));
    const auto fresh = ask(pod("client").netns(), "tcp", web);
    report_.row("a new connection, agent dead", fresh.has_value(),
                fresh ? fresh->server + " answered" : fresh.error().message);
    node(0).start();
    const auto [after, lost_after] = alive();
    report_.row("the same 100, agent back", after == 100 && lost_after == 0,
                fmt::format("{} alive, {} segments sent again", after, lost_after));
  }

  void show_views() {
    for (const auto& view : std::vector<std::vector<std::string>>{
             {"status"}, {"endpoint", "list"}, {"service", "list"}, {"drops"}}) {
      report_.heading(fmt::format("bpfnetctl {}", fmt::join(view, " ")));
      const Output output = node(0).ctl_text(view);
      fmt::print("{}{}", output.out, output.err);
    }
  }

  Cluster cluster_;
  Report report_;
};

}  // namespace

int main(int argc, char** argv) {
  ClusterOptions options;
  options.binaries = {
      .bpfnetd = BPFNETD_BINARY, .bpfnet_cni = BPFNET_CNI_BINARY, .bpfnetctl = BPFNETCTL_BINARY};
  options.prefix = "bn-demo-";
  options.run_root = "/run/bpfnet-demo";
  bool remove = false;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--keep") == 0) {
      options.keep = true;
    } else if (std::strcmp(argv[i], "--remove") == 0) {
      remove = true;
    } else {
      fmt::print(stderr, "usage: scripts/demo [--keep | --remove]\n");
      return 2;
    }
  }
  try {
    if (remove) {
      remove_leftovers(options);
      fmt::print("removed\n");
      return 0;
    }
    Demo demo(options);
    const int status = demo.run();
    if (options.keep) demo.tell_how_to_look();
    return status;
  } catch (const std::exception& error) {
    fmt::print(stderr, "demo: {}\n", error.what());
    return 1;
  }
}
