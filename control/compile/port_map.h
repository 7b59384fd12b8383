#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "control/compile/images.h"

namespace bpfnet::compile {

/// All that a rule can tell apart about traffic, on one line: the ports of TCP, then of UDP, then of SCTP,
/// then every other protocol as one point. So a rule is about a few spans of the line.
constexpr uint32_t kPortsOfProtocol = 1U << 16;
constexpr uint32_t kLineEnd = 3 * kPortsOfProtocol;  ///< the point of the other protocols

struct PortSpan {
  uint32_t first = 0;
  uint32_t last = 0;  ///< included
  auto operator<=>(const PortSpan&) const = default;
};
using PortSpans = std::vector<PortSpan>;  ///< ascending, apart from each other

/// first..last of one protocol, both included (P7).
PortSpan span_of(model::Protocol protocol, uint16_t first, uint16_t last);
/// Every protocol and port.
PortSpans whole_line();
/// The union.
PortSpans merged(PortSpans spans);

/// A verdict for each point of the line, as the ends of the stretches with one verdict.
struct PortMap {
  struct Stretch {
    uint32_t last = 0;
    PolicyVerdict verdict;
    bool operator==(const Stretch&) const = default;
  };
  std::vector<Stretch> stretches;  ///< ascending, the last one ends at kLineEnd
  bool operator==(const PortMap&) const = default;
};

/// Makes a PortMap by rules in the order they are tried: the first one that decides a point has it.
class PortMapBuilder {
 public:
  PortMapBuilder() : open_(whole_line()) {}

  void decide(const PortSpans& spans, PolicyVerdict verdict);
  /// Rules up to the next end_tier() are not asked about what is still open of `spans`.
  void pass(const PortSpans& spans);
  void end_tier();
  [[nodiscard]] bool anything_open() const { return !open_.empty(); }
  /// `rest`: of all that no rule decided.
  [[nodiscard]] PortMap finish(PolicyVerdict rest) &&;

 private:
  PortSpans open_;
  PortSpans passed_;
  std::vector<std::pair<PortSpan, PolicyVerdict>> decided_;
};

/// What is in force, with POLICY_AUDIT where `with_audited`, which also asks the policies in audit mode,
/// denies what is allowed.
PortMap audited(const PortMap& in_force, const PortMap& with_audited);

/// Of each point the stricter verdict: DENY before AUDIT before ALLOW, the first where they are alike.
PortMap strictest(const PortMap& first, const PortMap& second);

/// Part of a set's entry: the leading `bits` of `port` are significant; proto 0 is every protocol, bits 0
/// every port.
struct PortPrefix {
  uint8_t proto = 0;
  uint16_t port = 0;
  uint8_t bits = 0;
  auto operator<=>(const PortPrefix&) const = default;
};

/// The fewest disjoint prefixes that make up first..last, both included.
std::vector<PortPrefix> split_range(uint8_t proto, uint16_t first, uint16_t last);

using PrefixVerdicts = std::vector<std::pair<PortPrefix, PolicyVerdict>>;

/// Few prefixes of which the longest that holds a point gives its verdict. Where none does, `otherwise` is
/// looked up: no prefix is spent on what agrees with it.
PrefixVerdicts to_prefixes(const PortMap& map, const PortMap& otherwise);

/// The same verdict for everything.
PortMap uniform(PolicyVerdict verdict);

}  // namespace bpfnet::compile
