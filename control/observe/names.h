#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bpfnet::observe {

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

  /// Empty: all names are there.
  [[nodiscard]] const std::string& problem() const { return problem_; }

  /// `default/web:http`, else `service 7`; 0: empty.
  [[nodiscard]] std::string service(uint32_t id) const;
  /// `default/web-0`, else `endpoint 3`; 0: empty.
  [[nodiscard]] std::string endpoint(uint32_t index) const;
  /// `default/allow-web ingress[0]: ...`, else `rule 5`; 0: empty.
  [[nodiscard]] std::string rule(uint32_t id) const;
  /// The identity's text, else `identity 256`; reserved ones by their label.
  [[nodiscard]] std::string identity(uint32_t id) const;
  /// The index of the local endpoint of a pod, by `namespace/name` or by a name that is the only one such.
  [[nodiscard]] std::optional<uint16_t> endpoint_of(std::string_view pod) const;
  /// The policies that isolate an endpoint: `default/deny-all`; empty when none or not known.
  [[nodiscard]] std::string isolated_by(uint32_t endpoint, bool ingress) const;

 private:
  struct Isolation {
    std::string ingress;
    std::string egress;
  };

  std::string problem_;
  std::map<uint32_t, std::string> services_;
  std::map<uint32_t, std::string> endpoints_;
  std::map<uint32_t, std::string> rules_;
  std::map<uint32_t, std::string> identities_;
  std::map<uint32_t, Isolation> isolations_;
};

/// GET from the agent: its JSON, or why there is none, in words for people.
Result<nlohmann::ordered_json> ask_agent(const std::string& socket, std::string_view target);

}  // namespace bpfnet::observe
