// Random policies over random labels, on live traffic: whatever they are, the whole matrix holds by the
// evaluator that is written from the specification. BPFNET_E2E_POLICY_ROUNDS=N tries more of them,
// BPFNET_E2E_POLICY_SEED=N others.
#include <fmt/format.h>
#include <netinet/in.h>

#include <cstdlib>

#include "tests/e2e/policy_world.h"
#include "tests/support/policy/manifests.h"
#include "tests/support/policy/random_policies.h"
#include "tests/support/policy/specification.h"

namespace bpfnet::e2e {
namespace {

using compile::Direction;

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr && *text != '\0' ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A world and what the evaluator must know of it.
class RandomPolicies {
 public:
  explicit RandomPolicies(uint64_t seed) : random_(seed, vocabulary()) {
    for (const auto& party : world_.parties()) {
      if (party->is_pod()) {
        add_pod(*party);
      } else if (party->node >= 0) {
        state_.nodes[party->name].name = party->name;
        state_.nodes[party->name].internal_ips = {party->ips.begin(), party->ips.end()};
        if (party->node == 0) state_.nodes[party->name].labels = {{"role", "edge"}};
      }
    }
    for (const auto* name : {"x", "y", "z"}) label_namespace(name, world_.namespace_labels(name));
  }

  /// Other labels here and there, other policies everywhere.
  void shuffle() {
    for (int i = 0; i < 2; i++) {
      const Party& pod = *world_.parties().at(random_.pick(state_.pods.size()));
      world_.label_pod(pod.name, random_.labels().get());
      state_.pods.at(object_name(pod)).labels = pod.labels;
    }
    const std::string ns = random_.one_of(random_.words().namespaces);
    world_.label_namespace(ns, random_.labels().get());
    label_namespace(ns, world_.namespace_labels(ns));

    state_.policies.clear();
    for (size_t i = 1 + random_.pick(6); i > 0; i--) {
      const model::ObjectName name{random_.one_of(random_.words().namespaces), fmt::format("policy-{}", i)};
      state_.policies[name] = random_.policy(name);
      state_.policies[name].audit = false;  // has tests of its own
    }
    state_.cluster_policies.clear();
    for (size_t i = random_.pick(4); i > 0; i--) {
      const std::string name = fmt::format("tier-{}", i);
      state_.cluster_policies[name] = random_.cluster_policy(name);
      state_.cluster_policies[name].audit = false;
    }
    world_.policies(manifests());
  }
  [[nodiscard]] std::string manifests() const {
    std::string text;
    for (const auto& [name, policy] : state_.policies) text += "---\n" + test::manifest_of(policy) + "\n";
    for (const auto& [name, policy] : state_.cluster_policies)
      text += "---\n" + test::manifest_of(policy) + "\n";
    return text;
  }
  testing::AssertionResult holds() {
    return world_.holds([&](const Cell& cell) {
      return expected(
          cell, [&](const Cell& asked) { return decides(asked.from, Direction::kEgress, asked.to, asked); },
          [&](const Cell& asked) { return decides(asked.to, Direction::kIngress, asked.from, asked); },
          !state_.cluster_policies.empty());
    });
  }

 private:
  test::Vocabulary vocabulary() {
    test::Vocabulary words;
    words.namespaces = {"x", "y", "z"};
    words.ports = {1, 80, 81, 8080, 8082, 65535};
    words.port_names = {"web", "dns"};
    for (const auto& party : world_.parties())
      words.addresses.insert(words.addresses.end(), party->ips.begin(), party->ips.end());
    return words;
  }
  static model::ObjectName object_name(const Party& party) {
    return {party.ns, party.name.substr(party.name.find('/') + 1)};
  }
  void add_pod(const Party& party) {
    model::Pod pod;
    pod.name = object_name(party);
    pod.labels = party.labels;
    pod.ips = {party.ips.begin(), party.ips.end()};
    pod.phase = model::PodPhase::kRunning;
    std::vector<model::ContainerPort> ports;
    for (const auto& port : party.port_names) {
      ports.push_back({port.name, port.port, 0, std::nullopt,
                       port.protocol == "UDP" ? model::Protocol::kUdp : model::Protocol::kTcp});
    }
    pod.ports = std::move(ports);
    state_.pods[pod.name] = pod;
  }
  void label_namespace(const std::string& name, const LabelMap& labels) {
    state_.namespaces[name] = {name, labels, {}};
    state_.namespaces[name].labels["kubernetes.io/metadata.name"] = name;
  }
  [[nodiscard]] bool decides(const Party& subject, Direction direction, const Party& peer,
                             const Cell& cell) const {
    compile::LocalEndpoint endpoint;
    endpoint.pod = object_name(subject);
    endpoint.ips = {subject.ips.begin(), subject.ips.end()};
    const Address& address = peer.ip(cell.dialled.address.family());
    return test::specification_decides(state_, {}, {}, endpoint, direction, address, cell.proto, cell.port)
        .passes();
  }

  PolicyWorld world_;
  test::PolicyGenerator random_;
  model::ClusterState state_;
};

// P1-P11, P14, P19, P23-P25, A3-A10, A12
TEST(PolicyRandom, HoldsByTheSpecification) {
  const uint64_t seed = number_from("BPFNET_E2E_POLICY_SEED", 0x6270666e6574);
  const uint64_t rounds = number_from("BPFNET_E2E_POLICY_ROUNDS", 10);
  fmt::print("seed {}, {} rounds\n", seed, rounds);
  RandomPolicies policies(seed);
  for (uint64_t round = 0; round < rounds; round++) {
    policies.shuffle();
    ASSERT_TRUE(policies.holds()) << "seed " << seed << ", round " << round << ":\n" << policies.manifests();
  }
}

}  // namespace
}  // namespace bpfnet::e2e
