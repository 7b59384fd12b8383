#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"

namespace bpfnet::observe {

/// A pod anywhere in the cluster, as the agent's manifests have it.
struct PodName {
  std::string name;  ///< `default/web-0`
  std::string node;
  std::vector<Address> ips;
};

/// What the agent calls the numbers that stand in the maps. Without an agent there are none, and every view
/// shows the numbers.
class Names {
 public:
  /// No names at all; `problem` says why, in a sentence for people.
  static Names none(std::string problem);
  /// Asks the agent behind `socket`. Never fails: what could not be had is told by problem().
  static Names ask(const std::string& socket);
  /// From the answers of GET /v1/endpoints, /v1/services, /v1/policies and /v1/identities.
  static Names from_answers(const nlohmann::json& endpoints, const nlohmann::json& services,
                            const nlohmann::json& policies, const nlohmann::json& identities);
  /// Adds what GET /v1/nodes answered.
  void take_nodes(const nlohmann::json& nodes);

  /// Empty: all names are there.
  [[nodiscard]] const std::string& problem() const { return problem_; }

  /// `default/web:http`, else `service 7`; 0: empty.
  [[nodiscard]] std::string service(uint32_t id) const;
  /// `default/web-0`, else `endpoint 3`; 0: empty.
  [[nodiscard]] std::string endpoint(uint32_t index) const;
  /// `node-b`, else `node 3`; 0: empty.
  [[nodiscard]] std::string node(uint32_t index) const;
  /// `default/allow-web ingress[0]: ...`, else `rule 5`; 0: empty.
  [[nodiscard]] std::string rule(uint32_t id) const;
  /// Whom a rule is about, as it says it: `app=web`, `anywhere`; empty when not known.
  [[nodiscard]] std::string rule_peers(uint32_t id) const;
  /// The identity's text, else `identity 256`; reserved ones by their label.
  [[nodiscard]] std::string identity(uint32_t id) const;
  /// The index of the local endpoint of a pod, by `namespace/name` or by a name that is the only one such.
  [[nodiscard]] std::optional<uint16_t> endpoint_of(std::string_view pod) const;
  /// The policies that isolate an endpoint: `default/deny-all`; empty when none or not known.
  [[nodiscard]] std::vector<std::string> isolated_by(uint32_t endpoint, bool ingress) const;
  /// Those in audit mode that would.
  [[nodiscard]] std::vector<std::string> audited_by(uint32_t endpoint, bool ingress) const;

  /// The set that the agent wants an endpoint to be under; nullopt: not known. The maps may still have
  /// another.
  [[nodiscard]] std::optional<uint32_t> wanted_set(uint32_t endpoint, bool ingress) const;

  /// The pods called `name`, by `namespace/name` or by name alone, wherever they run. Asks the agent.
  [[nodiscard]] std::vector<PodName> pods_called(std::string_view name) const;
  /// The pod that has an address, wherever it runs: `default/web-0`; empty when none has or there is no
  /// agent. Asks the agent, once for each address.
  [[nodiscard]] std::string pod_at(const Address& address) const;

 private:
  /// Of one direction.
  struct Isolation {
    std::vector<std::string> policies;
    std::vector<std::string> audited;
    uint32_t set = 0;
  };
  struct Isolations {
    Isolation ingress;
    Isolation egress;
  };
  /// Null: not known.
  [[nodiscard]] const Isolation* isolation(uint32_t endpoint, bool ingress) const;

  std::string problem_;
  std::string socket_;  ///< empty: nobody to ask
  mutable std::map<Address, std::string> pods_;
  std::map<uint32_t, std::string> services_;
  std::map<uint32_t, std::string> endpoints_;
  std::map<uint32_t, std::string> nodes_;
  std::map<uint32_t, std::string> rules_;
  std::map<uint32_t, std::string> identities_;
  std::map<uint32_t, Isolations> isolations_;
};

/// GET from the agent: its JSON, or why there is none, in words for people.
Result<nlohmann::ordered_json> ask_agent(const std::string& socket, std::string_view target);
/// POST to the agent, with what it says where it refuses.
Result<nlohmann::ordered_json> tell_agent(const std::string& socket, std::string_view target,
                                          std::string_view body);
/// `text` as it may stand in the query of a target.
std::string query_text(std::string_view text);

}  // namespace bpfnet::observe
