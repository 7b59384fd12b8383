#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "control/model/objects.h"

namespace bpfnet::test {

/// The words that random policies are made of. Few of them, so that policies meet.
struct Vocabulary {
  std::vector<std::string> namespaces = {"blue", "green", "red"};
  std::vector<std::string> keys = {"app", "tier"};  ///< of labels of pods, namespaces and nodes alike
  std::vector<std::string> values = {"a", "b", "c"};
  std::vector<uint16_t> ports = {1, 53, 80, 81, 443, 8080, 8081, 65535};
  std::vector<std::string> port_names = {"http", "dns"};
  std::vector<Address> addresses;  ///< CIDRs are drawn around these; none: no CIDRs
};

/// Those that a policy can name.
inline const std::vector<model::Protocol> kProtocols = {model::Protocol::kTcp, model::Protocol::kUdp,
                                                        model::Protocol::kSctp};

/// Good policies, the same for the same seed on every machine.
class PolicyGenerator {
 public:
  PolicyGenerator(uint64_t seed, Vocabulary words) : random_(seed), words_(std::move(words)) {}

  model::NetworkPolicy policy(const model::ObjectName& name);
  model::ClusterNetworkPolicy cluster_policy(const std::string& name);
  model::Labels labels();

  /// A number in 0..below-1.
  size_t pick(size_t below) { return random_() % below; }
  bool chance(int percent) { return pick(100) < static_cast<size_t>(percent); }
  template <typename T>
  const T& one_of(const std::vector<T>& items) {
    return items[pick(items.size())];
  }
  [[nodiscard]] const Vocabulary& words() const { return words_; }

 private:
  model::Selector selector(bool of_namespaces);
  Cidr cidr();
  model::PolicyPeer peer();
  model::PolicyPort port(bool named);
  model::PolicyRule rule();
  model::PolicyPeer selected();
  model::ClusterPolicyRule cluster_rule(bool egress);

  std::mt19937_64 random_;
  Vocabulary words_;
};

}  // namespace bpfnet::test
