#include "bench/paths_to_service.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "bench/bed.h"

namespace bpfnet::bench {
namespace {

using std::chrono::steady_clock;

constexpr size_t kServicesPerFile = 500;
constexpr auto kLoadDeadline = std::chrono::minutes(3);
/// Endpoints are chosen at random: that one of ten stays unseen in so many is less likely than 1e-9.
constexpr int kProofs = 250;
constexpr const char* kGateway = "169.254.1.1";

double milliseconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count();
}

/// The directory of this process's cgroup; empty where there is no cgroup2.
std::string own_cgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("0::")) return e2e::cgroup2_mount() + line.substr(3);
  return "";
}

/// Many short connections from one address: ports are taken again a second after they were closed.
void prepare_client(const e2e::Netns& client) {
  client.sysctl("net/ipv4/ip_local_port_range", "10000 65000");
  client.sysctl("net/ipv4/tcp_tw_reuse", "1");
}

/// The kernel forwards, with whatever rules the mode loads. Pods are wired as plain CNI plugins do it: a /32
/// and a default route in the pod, a route to it on the node.
class KernelPath : public PathToService {
 public:
  KernelPath(const e2e::ClusterOptions& options, size_t index, Mode mode, size_t services, size_t endpoints)
      : PathToService(mode, services, endpoints),
        node_(fmt::format("{}{}-node", options.prefix, index)),
        client_netns_(fmt::format("{}{}-client", options.prefix, index)),
        backend_netns_(fmt::format("{}{}-backend", options.prefix, index)) {
    client_ = &client_netns_;
    backend_ = &backend_netns_;
    node_.sysctl("net/ipv4/ip_forward", "1");
    for (const char* which : {"all", "default"})
      node_.sysctl(fmt::format("net/ipv4/conf/{}/rp_filter", which), "0");
    const auto octet = static_cast<uint8_t>(index + 1);
    client_ip_ = Address::from_ipv4({10, 244, octet, 2});
    const Address backend_ip = Address::from_ipv4({10, 244, octet, 3});
    wire(client_netns_, "client", client_ip_);
    wire(backend_netns_, "backend", backend_ip);
    prepare_client(client_netns_);
    load(population(backend_ip));
    if (mode == Mode::kForwarding) target_ = {.address = backend_ip, .port = kFirstBackendPort};
  }

 private:
  void wire(const e2e::Netns& pod, const std::string& device, const Address& ip) const {
    constexpr const char* kMac = "02:00:00:00:00:01";
    node_.ip(fmt::format("link add {0} address {1} type veth peer name eth0 netns {2}\nlink set {0} up",
                         device, kMac, pod.name()));
    pod.ip(fmt::format(
        "link set eth0 up\naddr add {0}/32 dev eth0\nneigh add {1} lladdr {2} dev eth0 nud permanent\n"
        "route add default via {1} dev eth0 onlink",
        ip.to_string(), kGateway, kMac));
    node_.ip(fmt::format("route add {}/32 dev {}", ip.to_string(), device));
  }

  void load(const std::vector<Service>& services) {
    e2e::Command command{.netns = node_.fd()};
    switch (mode_) {
      case Mode::kIptablesLegacy:
        command.argv = {"iptables-legacy-restore"};
        command.input = iptables_rules(services);
        break;
      case Mode::kIptablesNft:
        command.argv = {"iptables-nft-restore"};
        command.input = iptables_rules(services);
        break;
      case Mode::kNftables:
        command.argv = {"nft", "-f", "-"};
        command.input = nftables_rules(services);
        break;
      default:
        return;
    }
    const auto begin = steady_clock::now();
    const e2e::Output output = e2e::run(command, kLoadDeadline);
    load_ms_ = milliseconds_since(begin);
    if (output.status != 0)
      throw std::runtime_error(fmt::format("{} with {} services: exit {}: {}", command.argv.front(),
                                           services_, output.status, output.err));
  }

  e2e::Netns node_;
  e2e::Netns client_netns_;
  e2e::Netns backend_netns_;
};

/// A node of ours.
class BpfnetPath : public PathToService {
 public:
  BpfnetPath(const e2e::ClusterOptions& options, size_t index, Mode mode, size_t services, size_t endpoints)
      : PathToService(mode, services, endpoints), options_(options) {
    options_.nodes.assign(index + 1, "");
    options_.nodes.back() = fmt::format("{}-node", index);
    if (mode == Mode::kBpfnetSockets) {
      // A cgroup of its own: no other path's connections meet its programs.
      cgroup_ = fmt::format("{}/{}{}", e2e::cgroup2_mount(), options.prefix, index);
      ::mkdir(cgroup_.c_str(), 0755);
      options_.sockets = "";  // said by these
      options_.agent_args = {"--sockets", "on", "--cgroup", cgroup_};
    }
    node_ = std::make_unique<e2e::Node>(options_, index);
    add_idle_uplink(*node_);
    node_->write_manifest("node", e2e::NodeManifest{.name = node_->name(),
                                                    .addresses = {node_->ip(Family::kIpv4)},
                                                    .pod_cidrs = node_->pod_cidrs()}
                                      .yaml());
    node_->start();
    client_pod_ = pod(fmt::format("{}-client", index));
    backend_pod_ = pod(fmt::format("{}-backend", index));
    client_ = &client_pod_->netns();
    backend_ = &backend_pod_->netns();
    client_ip_ = client_pod_->ip(Family::kIpv4);
    prepare_client(*client_);
    node_->stop_agent();
    const ManifestFiles files(population(backend_pod_->ip(Family::kIpv4)), kServicesPerFile,
                              ManifestFormat::kJson);
    for (size_t i = 0; i < files.count(); i++)
      std::ofstream(node_->dir("manifests/" + files.name(i))) << files.text(i);
    const auto begin = steady_clock::now();
    node_->start();
    load_ms_ = milliseconds_since(begin);
  }

  void prove() override {
    PathToService::prove();
    const auto counts = node_->ctl({"status"}).at("datapath").at("sockets");
    const bool translated = counts.value("connect", 0) > 0;
    if (translated != (mode_ == Mode::kBpfnetSockets))
      throw std::runtime_error(
          fmt::format("{}: sockets were {}translated", mode_name(mode_), translated ? "" : "not "));
  }

 private:
  std::unique_ptr<e2e::Pod> pod(const std::string& name) {
    return std::make_unique<e2e::Pod>(*node_, options_, name, e2e::PodOptions{.serve = false});
  }

  e2e::ClusterOptions options_;  // the node refers to it
  std::unique_ptr<e2e::Node> node_;
  std::unique_ptr<e2e::Pod> client_pod_;
  std::unique_ptr<e2e::Pod> backend_pod_;
};

}  // namespace

const char* mode_name(Mode mode) {
  switch (mode) {
    case Mode::kForwarding:
      return "plain forwarding";
    case Mode::kBpfnet:
      return "bpfnet";
    case Mode::kBpfnetSockets:
      return "bpfnet, sockets";
    case Mode::kIptablesLegacy:
      return "kube-proxy iptables (legacy)";
    case Mode::kIptablesNft:
      return "kube-proxy iptables (nft)";
    case Mode::kNftables:
      return "kube-proxy nftables";
  }
  return "";
}

std::vector<Service> PathToService::population(const Address& backend) {
  std::vector<Service> services = make_services(services_, endpoints_);
  Service& last = services.back();
  for (size_t i = 0; i < endpoints_; i++)
    last.endpoints[i] = {.ip = backend, .port = static_cast<uint16_t>(kFirstBackendPort + i)};
  target_ = {.address = last.cluster_ip, .port = last.port};
  return services;
}

void PathToService::enter() const {
  static const std::string home = own_cgroup();
  static std::string current = home;
  const std::string& wanted = cgroup_.empty() ? home : cgroup_;
  if (wanted == current) return;
  std::ofstream procs(wanted + "/cgroup.procs");
  if (!(procs << "0\n" << std::flush)) throw std::runtime_error(wanted + ": cannot be entered");
  current = wanted;
}

void PathToService::serve() {
  std::vector<uint16_t> ports;
  for (size_t i = 0; i < endpoints_; i++) ports.push_back(static_cast<uint16_t>(kFirstBackendPort + i));
  server_ = std::make_unique<RequestServer>(*backend_, ports);
}

void PathToService::prove() {
  const std::string what = fmt::format("{}, {} services", mode_name(mode_), services_);
  enter();
  const size_t expected = mode_ == Mode::kForwarding ? 1 : endpoints_;
  std::set<uint16_t> seen;
  client_->in([&] {
    for (int i = 0; i < kProofs && seen.size() < expected; i++) {
      const Reply reply = ask(target_);
      if (reply.client != client_ip_)
        throw std::runtime_error(fmt::format("{}: the backend sees {}", what, reply.client.to_string()));
      seen.insert(reply.port);
    }
  });
  if (seen.size() != expected)
    throw std::runtime_error(fmt::format("{}: {} of {} endpoints answered", what, seen.size(), expected));
}

std::unique_ptr<PathToService> make_path(const e2e::ClusterOptions& options, size_t index, Mode mode,
                                         size_t services, size_t endpoints) {
  if (mode == Mode::kBpfnet || mode == Mode::kBpfnetSockets)
    return std::make_unique<BpfnetPath>(options, index, mode, services, endpoints);
  return std::make_unique<KernelPath>(options, index, mode, services, endpoints);
}

}  // namespace bpfnet::bench
