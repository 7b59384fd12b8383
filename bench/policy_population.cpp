#include "bench/policy_population.h"

#include <fmt/format.h>

namespace bpfnet::bench {
namespace {

constexpr size_t kTiers = 4;
constexpr size_t kKinds = 5;
constexpr size_t kTeams = 10;
constexpr size_t kPolicyNodes = 99;

const Address kFirstPod = Address::from_ipv4({10, 128, 0, 1});

std::string namespace_name(size_t number) {
  return fmt::format("team-{:02}", number);
}

}  // namespace

PolicyPopulation::PolicyPopulation(const PolicyNumbers& numbers, std::string own_node)
    : numbers_(numbers), own_node_(std::move(own_node)) {
  const size_t apps = std::max<size_t>(1, numbers.identities / numbers.namespaces);
  const size_t each = std::max<size_t>(1, numbers.pods / std::max<size_t>(1, numbers.local));
  for (size_t i = 0; i < numbers.pods; ++i) {
    const size_t app = i / numbers.namespaces % apps;
    const Address ip = kFirstPod.plus(i).value();
    pods_.push_back({.ns = namespace_name(i % numbers.namespaces),
                     .name = fmt::format("pod-{:05}", i),
                     .app = app,
                     .policy_tier = app % kTiers,
                     .ip = ip});
  }
  // Over all namespaces and their apps, and as many as there are to be.
  for (size_t i = 0; i < numbers.local; ++i) {
    BenchPod& pod = pods_[std::min(i * each + i % each, numbers.pods - 1)];
    pod.local = true;
    pod.ip = Address();
  }
}

std::vector<size_t> PolicyPopulation::local_pods() const {
  std::vector<size_t> local;
  for (size_t i = 0; i < pods_.size(); ++i)
    if (pods_[i].local) local.push_back(i);
  return local;
}

std::string PolicyPopulation::namespaces_yaml() const {
  std::string text;
  for (size_t i = 0; i < numbers_.namespaces; ++i)
    text += fmt::format(
        "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n  labels: {{team: t{}, env: {}}}\n",
        namespace_name(i), i % kTeams, i % 2 ? "prod" : "test");
  return text;
}

std::string PolicyPopulation::pod_yaml(size_t pod, const std::string& version) const {
  const BenchPod& each = pods_[pod];
  const bool placed = each.ip != Address();
  return fmt::format(
      "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n  namespace: {}\n"
      "  labels: {{app: app-{}, tier: tier-{}{}}}\n"
      "spec:\n  nodeName: {}\n  containers:\n  - name: main\n    ports:\n"
      "    - {{name: http, containerPort: {}}}\n"
      "status:\n  phase: {}\n{}",
      each.name, each.ns, each.app, each.policy_tier, version.empty() ? "" : ", version: " + version,
      each.local ? own_node_ : fmt::format("node-{}", pod % kPolicyNodes), 8080 + each.app % 3,
      placed ? "Running" : "Pending",
      placed ? fmt::format("  podIPs:\n  - ip: {}\n", each.ip.to_string()) : "");
}

std::string PolicyPopulation::policy_yaml(size_t policy, size_t port) const {
  const size_t of_namespace = policy / numbers_.namespaces;
  const size_t apps = std::max<size_t>(1, numbers_.identities / numbers_.namespaces);
  std::string text = fmt::format(
      "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: policy-{:04}\n"
      "  namespace: {}\nspec:\n  podSelector:\n    matchLabels: {{tier: tier-{}}}\n",
      policy, namespace_name(policy % numbers_.namespaces), of_namespace % kTiers);
  switch (of_namespace % kKinds) {
    case 0:
      return text + fmt::format(
                        "  ingress:\n  - from:\n    - podSelector: {{matchLabels: {{app: app-{}}}}}\n"
                        "    - podSelector: {{matchLabels: {{app: app-{}}}}}\n"
                        "    ports: [{{port: {}}}, {{port: 443}}]\n",
                        of_namespace * 2 % apps, (of_namespace * 2 + 1) % apps, 80 + port);
    case 1:
      return text + fmt::format(
                        "  ingress:\n  - from:\n    - namespaceSelector: {{matchLabels: {{team: t{}}}}}\n"
                        "    ports: [{{port: {}}}, {{port: 8000, endPort: 8007}}]\n",
                        policy % kTeams, 9090 + port);
    case 2:
      return text + fmt::format(
                        "  ingress:\n  - from:\n    - ipBlock: {{cidr: 172.{0}.{1}.0/24, except: "
                        "[172.{0}.{1}.64/26]}}\n"
                        "    ports: [{{port: {2}}}]\n",
                        16 + of_namespace % 16, policy % numbers_.namespaces, 443 + port);
    case 3:
      return text + fmt::format(
                        "  policyTypes: [Egress]\n  egress:\n  - to:\n"
                        "    - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: team-00}}}}\n"
                        "      podSelector: {{matchLabels: {{app: app-0}}}}\n"
                        "    ports: [{{protocol: UDP, port: 53}}, {{port: 53}}]\n"
                        "  - to:\n    - ipBlock: {{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}\n"
                        "    ports: [{{port: {}}}]\n",
                        443 + port);
    default:
      return text + fmt::format(
                        "  ingress:\n  - from:\n    - namespaceSelector: {{matchLabels: {{team: t{}}}}}\n"
                        "      podSelector: {{matchLabels: {{tier: tier-2}}}}\n"
                        "    ports: [{{port: http}}, {{port: {}}}]\n",
                        (policy + 1) % kTeams, 7000 + port);
  }
}

size_t PolicyPopulation::policy_of(size_t pod) const {
  const BenchPod& wanted = pods_[pod];
  for (size_t i = 0; i < numbers_.policies; ++i) {
    const size_t of_namespace = i / numbers_.namespaces;
    if (namespace_name(i % numbers_.namespaces) == wanted.ns && of_namespace % kTiers == wanted.policy_tier &&
        of_namespace % kKinds == 1)
      return i;
  }
  return SIZE_MAX;
}

size_t PolicyPopulation::pod_files() const {
  return (numbers_.pods + numbers_.per_file - 1) / numbers_.per_file;
}

size_t PolicyPopulation::policy_files() const {
  return (numbers_.policies + numbers_.per_file - 1) / numbers_.per_file;
}

std::string PolicyPopulation::pod_file_name(size_t file) {
  return fmt::format("pods-{:05}.yaml", file);
}

std::string PolicyPopulation::policy_file_name(size_t file) {
  return fmt::format("policies-{:05}.yaml", file);
}

std::string PolicyPopulation::pod_file(size_t file, size_t pod, const std::string& version) const {
  std::string text;
  const size_t end = std::min(numbers_.pods, (file + 1) * numbers_.per_file);
  for (size_t i = file * numbers_.per_file; i < end; ++i) text += pod_yaml(i, i == pod ? version : "");
  return text;
}

std::string PolicyPopulation::policy_file(size_t file, size_t policy, size_t port) const {
  std::string text;
  const size_t end = std::min(numbers_.policies, (file + 1) * numbers_.per_file);
  for (size_t i = file * numbers_.per_file; i < end; ++i) text += policy_yaml(i, i == policy ? port : 0);
  return text;
}

}  // namespace bpfnet::bench
