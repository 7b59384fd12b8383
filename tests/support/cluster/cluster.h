#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "tests/support/cluster/api_mirror.h"
#include "tests/support/cluster/cgroup.h"
#include "tests/support/cluster/manifests.h"
#include "tests/support/cluster/netns.h"
#include "tests/support/cluster/process.h"
#include "tests/support/cluster/server.h"
#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// Where the binaries under test are.
struct Binaries {
  std::string bpfnetd;
  std::string bpfnet_cni;
  std::string bpfnetctl;
};

struct ClusterOptions {
  Binaries binaries;
  std::string prefix = "bn-e2e-";                 ///< of every namespace and cgroup
  std::string run_root = "/run/bpfnet-test-e2e";  ///< state, sockets, bpffs and logs of every node
  std::vector<std::string> nodes = {"node-a", "node-b"};
  /// files; kubernetes: each node has an API server of its own; kubernetes-shared: one on the client's host.
  std::string source = "files";
  std::string sockets = "off";            ///< --sockets; `on`: in a cgroup of the run; empty: not said
  std::string routing = "native";         ///< --routing
  bool routed = false;                    ///< every node on a segment of its own, behind the router
  std::vector<std::string> agent_args;    ///< added to every bpfnetd
  std::vector<std::string> cni_versions;  ///< unused entries are ignored; the first is used, default 1.0.0
  bool keep = false;                      ///< leave all of it running at the end
  milliseconds start_deadline{20000};     ///< of an agent, until it is ready
};

/// A namespace on a network, with one address of each family on eth0.
class Host {
 public:
  Host(std::string netns_name, const Address& ip4, const Address& ip6);
  [[nodiscard]] const Netns& netns() const { return netns_; }
  [[nodiscard]] Netns& netns() { return netns_; }
  [[nodiscard]] const Address& ip(Family family) const { return family == Family::kIpv4 ? ip4_ : ip6_; }

 protected:
  Netns netns_;
  Address ip4_;
  Address ip6_;
};

/// The physical network: a switch for the nodes and two clients on the same segment, and a router to a far
/// host behind a link of smaller MTU. The only bridge and the only IP forwarding of a test stand here.
class Network {
 public:
  static constexpr int kFarMtu = 1400;

  explicit Network(const std::string& prefix);
  /// Cables `host`'s new eth0 to the switch and gives it addresses and default routes by the router.
  void attach(const Host& host, const std::string& name);
  /// The same on a segment of its own, `number`, of which the router has the first address.
  void attach_routed(const Host& host, const std::string& name, size_t number);
  /// The router sends packets for `prefix` to `host`, as a network does that knows the nodes' pods.
  void route(const std::string& prefix, const Host& host, Family family);
  [[nodiscard]] Host& client() { return *client_; }
  [[nodiscard]] Host& other_client() { return *other_client_; }
  [[nodiscard]] Host& far() { return *far_; }
  [[nodiscard]] Host& router() { return *router_; }
  void keep();

 private:
  Netns lan_;
  std::unique_ptr<Host> router_;
  std::unique_ptr<Host> client_;
  std::unique_ptr<Host> other_client_;
  std::unique_ptr<Host> far_;
};

/// What a CNI call gave: exit status, stdout as JSON (null if none), stderr.
struct CniAnswer {
  int status = 0;
  std::unique_ptr<nlohmann::json> json;
  std::string text;
};

/// The parameters of one CNI call, as a runtime passes them.
struct CniCall {
  std::string command;
  std::string container_id;
  std::string netns;  ///< path
  std::string ifname = "eth0";
  std::string args;
  std::string config;
};

/// One node: its namespace, its directories, its agent.
class Node {
 public:
  /// Of the first node in a routed cluster; see Network::attach_routed.
  static constexpr size_t kFirstSegment = 101;

  Node(const ClusterOptions& options, size_t index);
  ~Node();
  Node(const Node&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] Host& host() { return host_; }
  [[nodiscard]] const Netns& netns() const { return host_.netns(); }
  [[nodiscard]] const Address& ip(Family family) const { return host_.ip(family); }
  [[nodiscard]] std::vector<std::string> pod_cidrs() const;
  [[nodiscard]] std::string dir(const std::string& name = "") const;
  [[nodiscard]] std::string bpffs() const { return dir("bpf"); }
  [[nodiscard]] std::string socket() const { return dir("bpfnet.sock"); }
  [[nodiscard]] std::string log() const { return read_text(dir("bpfnetd.log")); }

  /// Starts the agent and waits until GET /v1/status says ready. Throws with the end of its log.
  void start(const std::vector<std::string>& more_args = {});
  /// Starts the agent and waits for nothing.
  void launch(const std::vector<std::string>& more_args = {});
  /// What start() does after launch().
  void await_ready();
  void kill_agent() { agent_.kill(); }
  /// SIGTERM; throws if the agent does not end.
  void stop_agent();
  /// Runs `bpfnetd --cleanup` and gives its exit status; what it said is in the file cleanup.log.
  int cleanup(const std::vector<std::string>& more_args = {});
  [[nodiscard]] Child& agent() { return agent_; }

  /// One request to the agent's socket. Throws if the agent does not answer with 200.
  [[nodiscard]] nlohmann::json api(const std::string& path) const;
  /// `bpfnetctl ARGS --output json`, parsed. Throws if it fails.
  [[nodiscard]] nlohmann::json ctl(const std::vector<std::string>& args) const;
  /// `bpfnetctl ARGS` as a person calls it.
  [[nodiscard]] Output ctl_text(const std::vector<std::string>& args) const;
  /// The whole command line of bpfnetctl for this node.
  [[nodiscard]] std::vector<std::string> ctl_argv(const std::vector<std::string>& args) const;
  [[nodiscard]] CniAnswer cni(const CniCall& call) const;
  /// The plugin as a command, for tests that end it half-way.
  [[nodiscard]] Command cni_command(const CniCall& call) const;
  /// A network configuration for this node's agent; `extra` is merged into it.
  [[nodiscard]] std::string cni_config(const std::string& version = "1.0.0",
                                       const std::string& extra = "{}") const;

  /// Writes a manifest file and waits until the agent has applied it.
  void apply(const std::string& file, const std::string& yaml);
  void write_manifest(const std::string& file, const std::string& yaml) const;
  void remove_manifest(const std::string& file);
  /// Does `change` and waits until the agent has applied a newer generation.
  void await_applied(const std::function<void()>& change);
  [[nodiscard]] uint64_t generation() const;
  void keep();
  /// Where the agent's state comes from instead of files; before start().
  void use_api(std::shared_ptr<ApiMirror> api) { api_ = std::move(api); }
  /// Has the agent, and have its maps, everything that the API server has?
  [[nodiscard]] bool api_applied() const;

 private:
  [[nodiscard]] std::vector<std::string> agent_argv(const std::vector<std::string>& more_args) const;
  const ClusterOptions& options_;
  std::string name_;
  size_t index_;
  Host host_;
  std::shared_ptr<ApiMirror> api_;  ///< null: files are the source
  Child agent_;
  bool keep_ = false;
};

struct PodOptions {
  std::string ns = "default";
  LabelMap labels;
  std::string runtime_config;  ///< JSON object, e.g. {"portMappings":[...]}
  std::string args;            ///< more CNI_ARGS
  bool serve = true;           ///< an EchoServer on port 8080
  std::vector<PodPort> ports;
};

/// A pod: a namespace that bpfnet-cni has wired, as a runtime does it.
class Pod {
 public:
  static constexpr uint16_t kPort = 8080;

  /// Calls ADD. Throws with the plugin's answer if it fails.
  Pod(Node& node, const ClusterOptions& options, const std::string& name, const PodOptions& pod_options);
  ~Pod();
  Pod(const Pod&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Netns& netns() const { return netns_; }
  [[nodiscard]] Node& node() const { return node_; }
  [[nodiscard]] Address ip(Family family) const;
  [[nodiscard]] const std::vector<Address>& ips() const { return ips_; }
  [[nodiscard]] const std::string& container_id() const { return container_id_; }
  [[nodiscard]] const PodOptions& options() const { return options_; }
  [[nodiscard]] CniCall call(const std::string& command) const;
  /// Throws if the pod serves nothing.
  [[nodiscard]] const EchoServer& server() const;
  /// The result of ADD.
  [[nodiscard]] const nlohmann::json& result() const { return *result_; }
  /// DEL now; the destructor then does nothing more.
  void remove();
  void keep();

 private:
  Node& node_;
  std::string name_;
  PodOptions options_;
  std::string container_id_;
  Netns netns_;
  std::unique_ptr<nlohmann::json> result_;
  std::vector<Address> ips_;
  std::unique_ptr<EchoServer> server_;
  bool removed_ = false;
};

/// The name of the cgroup that the agents of a run work at, below the mount of cgroup2.
std::string cgroup_name(const ClusterOptions& options);

/// Nodes, network and pods of one test. What an earlier, killed run has left is removed first.
class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  ~Cluster();

  [[nodiscard]] Network& network() { return network_; }
  [[nodiscard]] Node& node(size_t index) { return *nodes_.at(index); }
  [[nodiscard]] size_t nodes() const { return nodes_.size(); }
  [[nodiscard]] const ClusterOptions& options() const { return options_; }

  /// For agents that are started from now on.
  void set_routing(const std::string& routing) { options_.routing = routing; }
  /// Writes the Pod object, wires the pod by CNI, writes its addresses into the object.
  Pod& add_pod(size_t node, const std::string& name, const PodOptions& options = {});
  void remove_pod(const std::string& name);
  [[nodiscard]] Pod& pod(const std::string& name) { return *pods_.at(name); }
  /// Writes the Pod object again with other labels.
  void label_pod(const std::string& name, const LabelMap& labels);
  /// Writes the Node object of `node` again with labels.
  void label_node(size_t node, const LabelMap& labels);
  /// Writes the Node object of `node` again with these addresses in place of its own.
  void list_node_addresses(size_t node, const std::vector<Address>& addresses);
  /// A manifest file on every node; waits until all have applied it.
  void apply(const std::string& file, const std::string& yaml);
  void remove(const std::string& file);
  /// The API server that all nodes share.
  [[nodiscard]] ApiMirror& api() { return *api_; }
  /// Backends of a service, from pods.
  [[nodiscard]] BackendManifest backend(const std::string& pod);

 private:
  /// Takes the lock that keeps two runs apart, then removes leftovers.
  struct Lock {
    explicit Lock(const ClusterOptions& options);
    ~Lock();
    std::string run_root;
    Fd fd;
  };
  void on_each_node(const std::function<void(Node&)>& change);
  void write_pod(const Pod& pod, const LabelMap& labels);
  [[nodiscard]] std::string cluster_objects() const;
  ClusterOptions options_;
  std::map<size_t, LabelMap> node_labels_;
  std::map<size_t, std::vector<Address>> node_addresses_;
  Lock lock_;
  std::optional<Cgroup> cgroup_;
  Network network_;
  std::shared_ptr<ApiMirror> api_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<std::string, std::unique_ptr<Pod>> pods_;
};

/// Removes namespaces, mounts, cgroups and processes of runs with these options.
void remove_leftovers(const ClusterOptions& options);

}  // namespace bpfnet::e2e
