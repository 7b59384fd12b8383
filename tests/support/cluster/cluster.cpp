#include "tests/support/cluster/cluster.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

/// A container id as runtimes make them: 64 hex digits, here telling the pod's name.
std::string container_id(const std::string& node, const std::string& pod) {
  std::string id;
  for (const char c : fmt::format("{}/{}", node, pod))
    id += fmt::format("{:02x}", static_cast<unsigned char>(c));
  id.resize(64, '0');
  return id;
}

std::string pod_args(const std::string& ns, const std::string& name, const std::string& id,
                     const std::string& more) {
  return fmt::format(
      "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=uid-{}{"
      "}{}",
      ns, name, id, name, more.empty() ? "" : ";", more);
}

}  // namespace

Pod::Pod(Node& node, const ClusterOptions& options, const std::string& name, const PodOptions& pod_options)
    : node_(node),
      name_(name),
      options_(pod_options),
      container_id_(e2e::container_id(node.name(), name)),
      netns_(options.prefix + "p-" + name) {
  CniAnswer answer = node_.cni(call("ADD"));
  if (answer.status != 0 || !answer.json->is_object()) {
    throw std::runtime_error(fmt::format("pod {}: ADD failed ({}): {}", name, answer.status, answer.text));
  }
  result_ = std::move(answer.json);
  for (const auto& ip : result_->at("ips")) {
    ips_.push_back(Cidr::parse(ip.at("address").get<std::string>()).value().address());
    // Cidr clears host bits; pods have full-length prefixes, but a delegated IPAM gives the subnet's.
    const std::string text = ip.at("address");
    ips_.back() = Address::parse(text.substr(0, text.find('/'))).value();
  }
  if (options_.serve) server_ = std::make_unique<EchoServer>(netns_, name_, kPort);
}

Pod::~Pod() {
  try {
    remove();
  } catch (const std::exception& error) {
    fmt::print(stderr, "pod {}: {}\n", name_, error.what());
  }
}

Address Pod::ip(Family family) const {
  for (const auto& ip : ips_) {
    if (ip.family() == family) return ip;
  }
  throw std::runtime_error(fmt::format("pod {} has no such address", name_));
}

const EchoServer& Pod::server() const {
  if (!server_) throw std::runtime_error(fmt::format("pod {} serves nothing", name_));
  return *server_;
}

CniCall Pod::call(const std::string& command) const {
  json extra = json::object();
  if (!options_.runtime_config.empty()) extra["runtimeConfig"] = json::parse(options_.runtime_config);
  if (command != "ADD" && result_) extra["prevResult"] = *result_;
  return {.command = command,
          .container_id = container_id_,
          .netns = netns_.path(),
          .ifname = "eth0",
          .args = pod_args(options_.ns, name_, container_id_, options_.args),
          .config = node_.cni_config("1.0.0", extra.dump())};
}

void Pod::remove() {
  if (removed_) return;
  removed_ = true;
  server_.reset();
  const CniAnswer answer = node_.cni(call("DEL"));
  if (answer.status != 0) throw std::runtime_error("DEL: " + answer.text);
}

void Pod::keep() {
  removed_ = true;
  netns_.keep();
}

Cluster::Lock::Lock(const ClusterOptions& options) : run_root(options.run_root) {
  fd = Fd(::open((options.run_root + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  if (!fd || ::flock(fd.get(), LOCK_EX) != 0)
    throw std::runtime_error(options.run_root + ".lock: cannot be locked");
  remove_leftovers(options);
}

// The nodes have removed their own directories; what --keep left in it keeps it.
Cluster::Lock::~Lock() {
  std::error_code not_empty;
  std::filesystem::remove(run_root, not_empty);
}

std::string cgroup_name(const ClusterOptions& options) {
  return options.prefix + "cluster";
}

Cluster::Cluster(ClusterOptions options)
    : options_(std::move(options)), lock_(options_), network_(options_.prefix) {
  if (options_.sockets == "on") cgroup_.emplace(cgroup_name(options_));
  for (size_t i = 0; i < options_.nodes.size(); i++) {
    nodes_.push_back(std::make_unique<Node>(options_, i));
    Node& node = *nodes_.back();
    if (options_.routed) {
      network_.attach_routed(node.host(), node.name(), Node::kFirstSegment + i);
    } else {
      network_.attach(node.host(), node.name());
    }
    if (options_.source == "kubernetes") node.use_api(std::make_shared<ApiMirror>(node.netns(), "127.0.0.1"));
    if (!options_.routed || options_.routing != "native") continue;
    for (const std::string& prefix : node.pod_cidrs())
      network_.route(prefix, node.host(), Cidr::parse(prefix).value().family());
  }
  if (options_.source == "kubernetes-shared") {
    Host& host = network_.client();
    api_ = std::make_shared<ApiMirror>(host.netns(), host.ip(Family::kIpv4).to_string());
    for (auto& node : nodes_) node->use_api(api_);
  }
  for (auto& node : nodes_) {
    node->write_manifest("00-cluster", cluster_objects());
    node->launch();
  }
  for (auto& node : nodes_) node->await_ready();
}

std::string Cluster::cluster_objects() const {
  std::string text;
  for (size_t i = 0; i < nodes_.size(); i++) {
    const Node& node = *nodes_[i];
    NodeManifest object{.name = node.name(),
                        .labels = {},
                        .addresses = {node.ip(Family::kIpv4), node.ip(Family::kIpv6)},
                        .pod_cidrs = node.pod_cidrs()};
    if (const auto labels = node_labels_.find(i); labels != node_labels_.end())
      object.labels = labels->second;
    if (const auto listed = node_addresses_.find(i); listed != node_addresses_.end())
      object.addresses = listed->second;
    text += "---\n" + object.yaml();
  }
  return text + "---\n" + NamespaceManifest{"default", {}}.yaml();
}

Cluster::~Cluster() {
  if (options_.keep) {
    for (auto& [name, pod] : pods_) pod->keep();
    for (auto& node : nodes_) node->keep();
    network_.keep();
    if (cgroup_) cgroup_->keep();
  }
}

Pod& Cluster::add_pod(size_t node, const std::string& name, const PodOptions& options) {
  // The object exists before the runtime acts, as in Kubernetes: policy applies to the pod's first packet.
  const PodManifest object{.ns = options.ns,
                           .name = name,
                           .node = nodes_.at(node)->name(),
                           .labels = options.labels,
                           .ports = options.ports};
  apply("pod-" + name, object.yaml());
  auto pod = std::make_unique<Pod>(*nodes_.at(node), options_, name, options);
  write_pod(*pod, options.labels);
  return *(pods_[name] = std::move(pod));
}

void Cluster::write_pod(const Pod& pod, const LabelMap& labels) {
  apply("pod-" + pod.name(), PodManifest{.ns = pod.options().ns,
                                         .name = pod.name(),
                                         .node = pod.node().name(),
                                         .labels = labels,
                                         .ips = pod.ips(),
                                         .ports = pod.options().ports}
                                 .yaml());
}

void Cluster::label_pod(const std::string& name, const LabelMap& labels) {
  write_pod(pod(name), labels);
}

void Cluster::label_node(size_t node, const LabelMap& labels) {
  node_labels_[node] = labels;
  apply("00-cluster", cluster_objects());
}

void Cluster::list_node_addresses(size_t node, const std::vector<Address>& addresses) {
  node_addresses_[node] = addresses;
  apply("00-cluster", cluster_objects());
}

void Cluster::remove_pod(const std::string& name) {
  pods_.at(name)->remove();
  pods_.erase(name);
  remove("pod-" + name);
}

// The agents work side by side, as those of real nodes do.
void Cluster::on_each_node(const std::function<void(Node&)>& change) {
  std::vector<std::future<void>> changes;
  for (auto& node : nodes_) changes.push_back(std::async(std::launch::async, [&] { change(*node); }));
  for (auto& each : changes) each.get();
}

void Cluster::apply(const std::string& file, const std::string& yaml) {
  on_each_node([&](Node& node) { node.apply(file, yaml); });
}

void Cluster::remove(const std::string& file) {
  on_each_node([&](Node& node) { node.remove_manifest(file); });
}

BackendManifest Cluster::backend(const std::string& name) {
  const Pod& pod = this->pod(name);
  return {.ips = pod.ips(), .node = pod.node().name()};
}

void remove_leftovers(const ClusterOptions& options) {
  kill_leftovers("bpfnet", options.run_root + "/");
  remove_netns(options.prefix);
  std::error_code none;
  for (const auto& node : std::filesystem::directory_iterator(options.run_root, none)) {
    ::umount2((node.path() / "bpf").c_str(), MNT_DETACH);
  }
  std::filesystem::remove_all(options.run_root, none);
  if (options.sockets == "on") ::rmdir((cgroup2_mount() + "/" + cgroup_name(options)).c_str());
}

}  // namespace bpfnet::e2e
