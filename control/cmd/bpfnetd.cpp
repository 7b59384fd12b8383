// The agent of one node. Flags and defaults: bpfnetd --help; docs/local-api.md is what it answers.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>

#include "control/agent/agent.h"
#include "control/agent/options.h"
#include "control/health/listen_address.h"
#include "loader/datapath.h"

/// Of jemalloc, which reads it before main(). The agent allocates little once the cluster is read: what
/// reading took goes back to the system after a second. glibc keeps 20 MiB more of a large cluster, in pages
/// half in use.
extern "C" const char* const malloc_conf =
    "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true";

namespace {

using bpfnet::Cidr;
using bpfnet::agent::Options;

struct Arguments {
  Options options;
  std::vector<std::string> pod_cidrs;
  std::vector<std::string> cluster_cidrs;
  std::vector<std::string> service_cidrs;
  std::vector<std::string> node_port_addresses;
  bool prepare = false;
  bool cleanup = false;
  bool cleanup_kube_proxy = false;
};

const CLI::Validator kCidr(
    [](const std::string& text) {
      const auto cidr = Cidr::parse(text);
      return cidr ? std::string() : cidr.error().message;
    },
    "CIDR");

/// S35: `primary` stands alone.
const CLI::Validator kCidrOrPrimary(
    [](const std::string& text) {
      if (text == "primary") return std::string();
      const auto cidr = Cidr::parse(text);
      return cidr ? std::string() : cidr.error().message + ", nor `primary`";
    },
    "CIDR or `primary`");

const CLI::Validator kListenAddress(
    [](const std::string& text) {
      if (text.empty()) return std::string();
      const auto where = bpfnet::health::ListenAddress::parse(text);
      return where ? std::string() : where.error().message;
    },
    "HOST:PORT");

void define(CLI::App& app, Arguments& args) {
  Options& o = args.options;
  app.set_version_flag("--version", "bpfnetd " BPFNET_VERSION);
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_config("--config", "",
                 "Read flags from this file, one a line: node-name=a, uplink=[\"eth0\",\"eth1\"]");
  app.add_option("--node-name", o.node_name,
                 "Name of this node's Node object (default: the host name in lower case)");
  app.add_option("--source", o.source,
                 "Where the wanted network state comes from: --manifests, an API server, or --etcd")
      ->check(CLI::IsMember({"files", "kubernetes", "etcd"}))
      ->capture_default_str();
  app.add_option(
      "--kubeconfig", o.kubeconfig,
      "Where the API server is and as whom it is asked, a file (default: the service account of the Pod)");
  app.add_option(
      "--api-server", o.api_server,
      "URL of the API server, instead of what kubeconfig or Pod say: without kube-proxy the service "
      "address of the API server leads nowhere until bpfnetd serves it");
  app.add_option("--manifests", o.manifests, "Directory of Kubernetes manifests, watched")
      ->capture_default_str();
  app.add_option("--etcd", o.etcd.endpoints,
                 "Endpoint of etcd, e.g. https://192.0.2.1:2379; repeat for several of one cluster");
  app.add_option("--etcd-prefix", o.etcd.prefix, "What keys of objects begin with")->capture_default_str();
  app.add_option("--etcd-ca", o.etcd.ca, "File of authorities that etcd's certificate is checked by");
  app.add_option("--etcd-cert", o.etcd.certificate, "File of the certificate shown to etcd");
  app.add_option("--etcd-key", o.etcd.key, "File of its key");
  app.add_option("--etcd-user", o.etcd.user, "User of etcd, where its auth is on");
  app.add_option("--etcd-password-file", o.etcd.password_file, "File with the user's password");
  app.add_option("--state-dir", o.state_dir, "Leases, endpoints, numbers and the journal of host changes")
      ->capture_default_str();
  app.add_option("--bpffs", o.bpffs, "Where maps and links are pinned; made a bpffs if it is none")
      ->capture_default_str();
  app.add_option("--socket", o.socket, "Unix socket of the local API")->capture_default_str();
  app.add_option("--cgroup", o.cgroup, "cgroup2 directory above the processes that --sockets is for")
      ->capture_default_str();
  app.add_option("--sockets", o.sockets,
                 "Translate services when sockets of the node and its pods connect and send; auto: where "
                 "kernel and --cgroup allow")
      ->check(CLI::IsMember({"on", "off", "auto"}))
      ->capture_default_str();
  app.add_option("--netns", o.netns, "Network namespace to work in, a path (default: the caller's)");
  app.add_option("--cni-conf", o.cni_conf,
                 "Write a conflist for bpfnet-cni to this file of the runtime's directory, once pods can be "
                 "served (default: none)");
  app.add_option("--cni-bin-dir", o.cni_bin_dir,
                 "Copy bpfnet-cni to this directory, the runtime's, at start (default: none)");
  app.add_option(
      "--uplink", o.uplinks,
      "Device that leads outside; repeat for several (default: devices of default routes, else those "
      "with the Node's address)");
  app.add_option("--pod-cidr", args.pod_cidrs,
                 "Addresses for pods; repeat for several (default: the Node's podCIDRs)")
      ->check(kCidr);
  app.add_option("--cluster-cidr", args.cluster_cidrs, "Addresses that pods reach without masquerade; repeat")
      ->check(kCidr);
  app.add_option(
         "--service-cidr", args.service_cidrs,
         "Addresses of services; repeat; ServiceCIDR objects add to them (default: 10.96.0.0/12 and "
         "fd00:10:96::/112; with --source kubernetes those of them that Services have, unless there are "
         "ServiceCIDR objects)")
      ->check(kCidr);
  app.add_option(
         "--nodeport-addresses", args.node_port_addresses,
         "Open NodePorts on these local addresses only; repeat; `primary`, alone: on the Node's primary "
         "IPs (default: all of them)")
      ->check(kCidrOrPrimary);
  app.add_option("--healthz-address", o.healthz_address,
                 "Where /healthz, /livez and /readyz answer, for load balancers and kubelet; \"\": nowhere")
      ->check(kListenAddress)
      ->capture_default_str();
  app.add_option("--metrics-address", o.metrics_address,
                 "Where /metrics, /proxyMode and /configz answer; \"\": nowhere")
      ->check(kListenAddress)
      ->capture_default_str();
  app.add_option("--max-flows", o.max_flows, "Connections the flow table holds")
      ->check(CLI::Range(16U, 1U << 24))
      ->capture_default_str();
  app.add_option("--endpoint-flow-quota", o.endpoint_flow_quota,
                 "Connections one pod may hold open; 0: no limit")
      ->capture_default_str();
  app.add_option("--max-policy-entries", o.max_policy_entries,
                 "Entries of policy sets; a policy that does not fit is refused")
      ->check(CLI::Range(16U, 1U << 24))
      ->capture_default_str();
  app.add_option("--max-addresses", o.max_addresses, "Addresses of pods and nodes of the cluster")
      ->check(CLI::Range(16U, 1U << 24))
      ->capture_default_str();
  app.add_option("--max-cidrs", o.max_cidrs, "Prefixes that policies and ranges name")
      ->check(CLI::Range(16U, 1U << 24))
      ->capture_default_str();
  app.add_option("--tcp-established-timeout", o.tcp_established_timeout,
                 "Seconds after which an idle TCP connection is forgotten")
      ->check(CLI::Range(1U, 1U << 30))
      ->capture_default_str();
  app.add_option("--tcp-close-wait-timeout", o.tcp_close_wait_timeout,
                 "Seconds after which one that a single side has closed is")
      ->check(CLI::Range(1U, 1U << 30))
      ->capture_default_str();
  app.add_option("--masquerade", o.masquerade, "Pods leave the cluster with the node's address")
      ->capture_default_str();
  app.add_flag("--policy-audit", o.policy_audit,
               "Network policy drops nothing here; what it would drop is an event");
  app.add_option(
         "--policy-denied", o.policy_denied,
         "What those hear whom a pod's policy denies, where no annotation policy.bpfnet.io/denied says it")
      ->check(CLI::IsMember({"drop", "reject"}))
      ->capture_default_str();
  app.add_option("--xdp", o.xdp, "XDP on uplinks; auto is native, and off on veth")
      ->check(CLI::IsMember({"off", "generic", "native", "auto"}))
      ->capture_default_str();
  app.add_option("--routing", o.routing,
                 "How packets reach other nodes' pods: native, as they are, by routes; or overlay, in VXLAN "
                 "tunnels; the same on all nodes")
      ->check(CLI::IsMember({"native", "overlay"}))
      ->capture_default_str();
  app.add_option("--overlay-port", o.overlay_port, "UDP port of the tunnels, the same on all nodes")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  app.add_option("--overlay-vni", o.overlay_vni,
                 "Number of the VXLAN network, the same on all nodes; others' tunnels are refused")
      ->check(CLI::Range(1U, (1U << 24) - 1))
      ->capture_default_str();
  app.add_flag("--trace", o.trace, "Send an event for every packet");
  app.add_option("--log-level", o.log_level, "How much is logged")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_flag("--prepare", args.prepare,
               "Mount what is not mounted, a BPF file system for --bpffs and cgroup2 at --cgroup, copy the "
               "plugin to --cni-bin-dir, then end");
  app.add_flag("--cleanup", args.cleanup,
               "Take away everything an agent with these flags made on this host, then end");
  app.add_flag("--cleanup-kube-proxy", args.cleanup_kube_proxy,
               "Take away what kube-proxy left: nftables tables kube-proxy, iptables chains KUBE-* but "
               "kubelet's, then end; alone also while an agent runs");
}

std::vector<Cidr> cidrs_of(const std::vector<std::string>& texts) {
  std::vector<Cidr> cidrs;
  for (const std::string& text : texts) cidrs.push_back(Cidr::parse(text).value());  // checked by kCidr
  return cidrs;
}

int die(const bpfnet::Error& error) {
  spdlog::critical("{}", error.message);
  return 1;
}

/// One that fails does not keep the other from being done.
int clean_up(const Arguments& args) {
  const auto ours = args.cleanup ? bpfnet::agent::cleanup(args.options) : bpfnet::ok();
  const auto theirs =
      args.cleanup_kube_proxy ? bpfnet::agent::cleanup_kube_proxy(args.options) : bpfnet::ok();
  if (!ours) die(ours.error());
  if (!theirs) die(theirs.error());
  return ours && theirs ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app(
      "bpfnetd: wires the containers of one node by BPF.\n"
      "SIGTERM ends the agent and leaves the datapath serving; --cleanup takes everything away.",
      "bpfnetd");
  app.get_formatter()->column_width(32);
  define(app, args);
  CLI11_PARSE(app, argc, argv);

  spdlog::set_default_logger(spdlog::stderr_color_mt("bpfnetd"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  spdlog::set_level(spdlog::level::from_str(args.options.log_level));
  spdlog::flush_on(spdlog::level::info);

  Options& options = args.options;
  options.pod_cidrs = cidrs_of(args.pod_cidrs);
  options.cluster_cidrs = cidrs_of(args.cluster_cidrs);
  options.service_cidrs =
      args.service_cidrs.empty() ? Options::default_service_cidrs() : cidrs_of(args.service_cidrs);
  options.service_cidrs_guessed = args.service_cidrs.empty() && options.source == "kubernetes";
  if (args.node_port_addresses == std::vector<std::string>{"primary"}) {
    options.node_port_primary = true;
  } else if (std::ranges::count(args.node_port_addresses, "primary") > 0) {
    return die({"--nodeport-addresses: `primary` stands alone; name CIDRs, or nothing but `primary`"});
  } else {
    options.node_port_addresses = cidrs_of(args.node_port_addresses);
  }

  if (args.prepare && (args.cleanup || args.cleanup_kube_proxy))
    return die({"--prepare: cannot be said together with --cleanup or --cleanup-kube-proxy"});
  if (args.cleanup || args.cleanup_kube_proxy) return clean_up(args);
  if (args.prepare) {
    const auto prepared = bpfnet::agent::prepare(options);
    return prepared ? 0 : die(prepared.error());
  }
  auto agent = bpfnet::agent::Agent::start(options);
  if (!agent) return die(agent.error());
  const auto ended = (*agent)->run();
  return ended ? 0 : die(ended.error());
}
