#include "bench/kube_proxy.h"

#include <fmt/format.h>

#include <string_view>

namespace bpfnet::bench {
namespace {

constexpr size_t kLargeCluster = 1000;
constexpr size_t kIptablesHash = 16;
constexpr size_t kNftablesHash = 8;

/// Stands for kube-proxy's base32 of a SHA-256: as long, and the same for the same text.
std::string hash(std::string_view text, size_t length) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  uint64_t state = 14695981039346656037ULL;
  const auto mix = [&](unsigned char byte) { state = (state ^ byte) * 1099511628211ULL; };
  for (const char c : text) mix(static_cast<unsigned char>(c));
  std::string result;
  while (result.size() < length) {
    mix(static_cast<unsigned char>(result.size()));
    result += kAlphabet[state >> 59];
  }
  return result;
}

std::string port_name(const Service& s) {
  return fmt::format("{}/{}:{}", s.ns, s.name, s.port_name);
}

std::string address(const Endpoint& endpoint) {
  return fmt::format("{}:{}", endpoint.ip.to_string(), endpoint.port);
}

std::string service_chain(const Service& s) {
  return "KUBE-SVC-" + hash(port_name(s) + "tcp", kIptablesHash);
}

std::string endpoint_chain(const Service& s, const Endpoint& endpoint) {
  return "KUBE-SEP-" + hash(port_name(s) + "tcp" + address(endpoint), kIptablesHash);
}

/// Everything that does not depend on services: jumps from the built-in chains, and the filter table.
constexpr std::string_view kIptablesFilter =
    "*filter\n"
    ":KUBE-NODEPORTS - [0:0]\n"
    ":KUBE-SERVICES - [0:0]\n"
    ":KUBE-EXTERNAL-SERVICES - [0:0]\n"
    ":KUBE-FIREWALL - [0:0]\n"
    ":KUBE-FORWARD - [0:0]\n"
    ":KUBE-PROXY-FIREWALL - [0:0]\n"
    "-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\""
    " -j KUBE-PROXY-FIREWALL\n"
    "-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS\n"
    "-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service "
    "portals\""
    " -j KUBE-EXTERNAL-SERVICES\n"
    "-A INPUT -j KUBE-FIREWALL\n"
    "-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\""
    " -j KUBE-PROXY-FIREWALL\n"
    "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n"
    "-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j "
    "KUBE-SERVICES\n"
    "-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service "
    "portals\""
    " -j KUBE-EXTERNAL-SERVICES\n"
    "-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\""
    " -j KUBE-PROXY-FIREWALL\n"
    "-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j "
    "KUBE-SERVICES\n"
    "-A OUTPUT -j KUBE-FIREWALL\n"
    "-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8"
    " ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n"
    "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000"
    " -j ACCEPT\n"
    "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack"
    " --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    "COMMIT\n";

constexpr std::string_view kIptablesNat =
    "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n"
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n"
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n"
    "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\""
    " -j MASQUERADE --random-fully\n"
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n";

/// The chain of one service and those of its endpoints.
std::string iptables_chains(const Service& s, const KubeProxyOptions& options, bool comments) {
  const std::string chain = service_chain(s);
  const auto comment = [&](const std::string& text) {
    return comments ? fmt::format(" -m comment --comment \"{}\"", text) : std::string();
  };
  std::string rules = fmt::format("-A {}{} -m tcp -p tcp -d {} --dport {} ! -s {} -j KUBE-MARK-MASQ\n", chain,
                                  comment(port_name(s) + " cluster IP"), s.cluster_ip.to_string(), s.port,
                                  options.cluster_cidr);
  for (size_t i = 0; i < s.endpoints.size(); i++) {
    // Each takes its share of what the ones before have left; the last one takes all of it.
    const size_t left = s.endpoints.size() - i;
    const std::string share = left == 1 ? ""
                                        : fmt::format(" -m statistic --mode random --probability {:.10f}",
                                                      1.0 / static_cast<double>(left));
    rules += fmt::format("-A {}{}{} -j {}\n", chain,
                         comment(fmt::format("{} -> {}", port_name(s), address(s.endpoints[i]))), share,
                         endpoint_chain(s, s.endpoints[i]));
  }
  for (const Endpoint& endpoint : s.endpoints) {
    const std::string own = endpoint_chain(s, endpoint);
    rules +=
        fmt::format("-A {}{} -s {} -j KUBE-MARK-MASQ\n", own, comment(port_name(s)), endpoint.ip.to_string());
    rules += fmt::format("-A {}{} -m tcp -p tcp -j DNAT --to-destination {}\n", own, comment(port_name(s)),
                         address(endpoint));
  }
  return rules;
}

std::string nft_name(const Service& s) {
  return fmt::format("{}/{}/tcp/{}", s.ns, s.name, s.port_name);
}

std::string nft_service_chain(const Service& s) {
  return fmt::format("service-{}-{}", hash(nft_name(s), kNftablesHash), nft_name(s));
}

std::string nft_endpoint_chain(const Service& s, const Endpoint& endpoint) {
  const std::string name = fmt::format("{}__{}/{}", nft_name(s), endpoint.ip.to_string(), endpoint.port);
  return fmt::format("endpoint-{}-{}", hash(name, kNftablesHash), name);
}

/// Sets, maps and chains without services.
constexpr std::string_view kNftablesBase = R"(table ip kube-proxy {{
	comment "rules for kube-proxy"
	set cluster-ips {{ type ipv4_addr; comment "Active ClusterIPs"; }}
	set nodeport-ips {{ type ipv4_addr; comment "IPs that accept NodePort traffic"; elements = {{ {node_ip} }}; }}
	map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
	map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
	map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
	map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
	map service-nodeports {{ type inet_proto . inet_service : verdict; }}
	chain cluster-ips-check {{
		ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
		ip daddr {{ {service_cidr} }} drop comment "Drop traffic to unallocated ClusterIPs"
	}}
	chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
	chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
	chain masquerading {{
		meta mark and 0x4000 == 0 return
		meta mark set meta mark xor 0x4000
		masquerade fully-random
	}}
	chain nodeport-endpoints-check {{
		ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
	}}
	chain service-endpoints-check {{ ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
	chain services {{
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}}
	chain filter-prerouting-pre-dnat {{
		type filter hook prerouting priority -110;
		ct state new jump firewall-check
	}}
	chain filter-output-pre-dnat {{
		type filter hook output priority -110;
		ct state new jump firewall-check
	}}
	chain filter-forward {{
		type filter hook forward priority 0;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain filter-input {{
		type filter hook input priority 0;
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}}
	chain filter-output {{
		type filter hook output priority 0;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain nat-output {{ type nat hook output priority -100; jump services; }}
	chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
	chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
}}
)";

/// Chains before the rules that go to them: nft reads from top to bottom.
std::string nftables_chains(const Service& s, const KubeProxyOptions& options) {
  std::string rules;
  std::string choices;
  for (size_t i = 0; i < s.endpoints.size(); i++) {
    const Endpoint& endpoint = s.endpoints[i];
    const std::string own = nft_endpoint_chain(s, endpoint);
    rules += fmt::format(
        "add chain ip kube-proxy {0}\n"
        "add rule ip kube-proxy {0} ip saddr {1} jump mark-for-masquerade\n"
        "add rule ip kube-proxy {0} meta l4proto tcp dnat to {2}\n",
        own, endpoint.ip.to_string(), address(endpoint));
    choices += fmt::format("{}{} : goto {}", i == 0 ? "" : ", ", i, own);
  }
  const std::string chain = nft_service_chain(s);
  rules += fmt::format(
      "add chain ip kube-proxy {0}\n"
      "add rule ip kube-proxy {0} ip daddr {1} ip saddr != {2} jump mark-for-masquerade\n"
      "add rule ip kube-proxy {0} numgen random mod {3} vmap {{ {4} }}\n",
      chain, s.cluster_ip.to_string(), options.cluster_cidr, s.endpoints.size(), choices);
  rules += fmt::format(
      "add element ip kube-proxy cluster-ips {{ {0} }}\n"
      "add element ip kube-proxy service-ips {{ {0} . tcp . {1} : goto {2} }}\n",
      s.cluster_ip.to_string(), s.port, chain);
  return rules;
}

}  // namespace

std::string iptables_rules(const std::vector<Service>& services, const KubeProxyOptions& options) {
  size_t endpoints = 0;
  std::string rules(kIptablesFilter);
  rules +=
      "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n"
      ":KUBE-MARK-MASQ - [0:0]\n";
  for (const Service& s : services) {
    rules += fmt::format(":{} - [0:0]\n", service_chain(s));
    for (const Endpoint& endpoint : s.endpoints)
      rules += fmt::format(":{} - [0:0]\n", endpoint_chain(s, endpoint));
    endpoints += s.endpoints.size();
  }
  rules += kIptablesNat;
  for (const Service& s : services) {
    rules += fmt::format(
        "-A KUBE-SERVICES -m comment --comment \"{} cluster IP\" -m tcp -p tcp -d {} --dport {} -j {}\n",
        port_name(s), s.cluster_ip.to_string(), s.port, service_chain(s));
    rules += iptables_chains(s, options, endpoints <= kLargeCluster);
  }
  rules +=
      "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last "
      "rule in"
      " this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n"
      "COMMIT\n";
  return rules;
}

std::string nftables_rules(const std::vector<Service>& services, const KubeProxyOptions& options) {
  std::string rules = fmt::format(kNftablesBase, fmt::arg("node_ip", options.node_ip),
                                  fmt::arg("service_cidr", options.service_cidr));
  for (const Service& s : services) rules += nftables_chains(s, options);
  return rules;
}

}  // namespace bpfnet::bench
