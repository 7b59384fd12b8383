#include "control/compile/port_map.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

constexpr std::array kProtocols = {model::Protocol::kTcp, model::Protocol::kUdp, model::Protocol::kSctp};

/// Calls use(span, inside) for each piece of `open`, ascending; inside: it lies within `spans`.
template <typename Use>
void cut(const PortSpans& open, const PortSpans& spans, Use use) {
  auto span = spans.begin();
  for (const PortSpan& each : open) {
    uint32_t first = each.first;
    while (span != spans.end() && span->last < first) ++span;
    for (auto next = span; next != spans.end() && next->first <= each.last; ++next) {
      if (next->first > first) use(PortSpan{first, next->first - 1}, false);
      const uint32_t last = std::min(next->last, each.last);
      use(PortSpan{std::max(first, next->first), last}, true);
      first = last + 1;
    }
    if (first <= each.last) use(PortSpan{first, each.last}, false);
  }
}

/// A stretch of the line with one verdict, which is or is not that of `otherwise`.
struct Piece {
  uint32_t last = 0;
  PolicyVerdict verdict;
  bool agrees = false;
};

std::vector<Piece> compare(const PortMap& map, const PortMap& otherwise) {
  std::vector<Piece> pieces;
  auto other = otherwise.stretches.begin();
  for (const PortMap::Stretch& each : map.stretches) {
    for (;;) {
      const uint32_t last = std::min(each.last, other->last);
      const bool agrees = each.verdict == other->verdict;
      if (!pieces.empty() && pieces.back().verdict == each.verdict && pieces.back().agrees == agrees) {
        pieces.back().last = last;
      } else {
        pieces.push_back({last, each.verdict, agrees});
      }
      if (other->last == last && last != kLineEnd) ++other;
      if (last == each.last) break;
    }
  }
  return pieces;
}

/// The values a prefix may have, if what is below it is to need as few prefixes as possible: verdicts, or
/// none at all.
struct Candidates {
  std::vector<PolicyVerdict> verdicts;
  bool none = false;
  [[nodiscard]] bool contains(const std::optional<PolicyVerdict>& value) const {
    return value ? std::ranges::find(verdicts, *value) != verdicts.end() : none;
  }
};

/// Compresses one trie after "Constructing Optimal IP Routing Tables" (Draves and others, 1999), with the
/// verdict of `otherwise` as a value that costs no prefix but can only be had above all prefixes.
class Compressor {
 public:
  explicit Compressor(const std::vector<Piece>& pieces) : pieces_(pieces) {}

  PrefixVerdicts run() {
    std::array<Node, 3> tries;
    for (size_t i = 0; i < tries.size(); ++i)
      tries[i] = solve(static_cast<uint32_t>(i) * kPortsOfProtocol, kPortsOfProtocol);
    // Other protocols have no prefix of their own but that of all protocols.
    const Piece& others = pieces_.back();
    std::optional<PolicyVerdict> root = others.verdict;
    const auto cost = [&](const std::optional<PolicyVerdict>& value) {
      return (value ? 1 : 0) +
             std::ranges::count_if(tries, [&](const Node& trie) { return !trie.candidates.contains(value); });
    };
    if (others.agrees && cost(std::nullopt) <= cost(root)) root.reset();
    if (root) prefixes_.push_back({{0, 0, 0}, *root});
    for (size_t i = 0; i < tries.size(); ++i)
      place(tries[i], {static_cast<uint8_t>(kProtocols[i]), 0, 0}, root);
    return std::move(prefixes_);
  }

 private:
  struct Node {
    Candidates candidates;
    std::vector<Node> halves;  ///< none or two
  };

  const Piece* piece_at(uint32_t point) const {
    return &*std::ranges::lower_bound(pieces_, point, {}, &Piece::last);
  }

  Node solve(uint32_t first, uint32_t size) {
    const Piece* piece = piece_at(first);
    if (piece->last >= first + size - 1) return {{{piece->verdict}, piece->agrees}, {}};
    Node node;
    node.halves = {solve(first, size / 2), solve(first + size / 2, size / 2)};
    const Candidates& a = node.halves[0].candidates;
    const Candidates& b = node.halves[1].candidates;
    for (const PolicyVerdict& verdict : a.verdicts)
      if (b.contains(verdict)) node.candidates.verdicts.push_back(verdict);
    node.candidates.none = a.none && b.none;
    if (!node.candidates.verdicts.empty() || node.candidates.none) return node;
    node.candidates = a;
    node.candidates.verdicts.insert(node.candidates.verdicts.end(), b.verdicts.begin(), b.verdicts.end());
    node.candidates.none |= b.none;
    return node;
  }

  void place(const Node& node, PortPrefix prefix, std::optional<PolicyVerdict> inherited) {
    // Below a prefix there is no way back to `otherwise`, but a verdict says the same.
    if (node.candidates.contains(inherited) || node.candidates.verdicts.empty())
      return place_halves(node, prefix, inherited);
    const size_t before = prefixes_.size();
    const PolicyVerdict verdict = node.candidates.verdicts.front();
    prefixes_.push_back({prefix, verdict});
    place_halves(node, prefix, verdict);
    if (inherited || node.halves.empty()) return;
    // Exceptions are hard to read: only where they save something.
    const auto begin = prefixes_.begin() + static_cast<ptrdiff_t>(before);
    PrefixVerdicts with_exceptions(begin, prefixes_.end());
    prefixes_.erase(begin, prefixes_.end());
    place_halves(node, prefix, inherited);
    if (prefixes_.size() - before <= with_exceptions.size()) return;
    prefixes_.resize(before);
    prefixes_.insert(prefixes_.end(), with_exceptions.begin(), with_exceptions.end());
  }

  void place_halves(const Node& node, PortPrefix prefix, std::optional<PolicyVerdict> inherited) {
    if (node.halves.empty()) return;
    ++prefix.bits;
    place(node.halves[0], prefix, inherited);
    prefix.port = static_cast<uint16_t>(prefix.port | 1U << (16 - prefix.bits));
    place(node.halves[1], prefix, inherited);
  }

  const std::vector<Piece>& pieces_;
  PrefixVerdicts prefixes_;
};

/// Point by point what `of_both` makes of the two verdicts.
template <typename OfBoth>
PortMap combine(const PortMap& first, const PortMap& second, const OfBoth& of_both) {
  PortMap map;
  auto other = second.stretches.begin();
  for (const PortMap::Stretch& each : first.stretches) {
    for (;;) {
      const uint32_t last = std::min(each.last, other->last);
      const PolicyVerdict verdict = of_both(each.verdict, other->verdict);
      if (!map.stretches.empty() && map.stretches.back().verdict == verdict) {
        map.stretches.back().last = last;
      } else {
        map.stretches.push_back({last, verdict});
      }
      if (other->last == last && last != kLineEnd) ++other;
      if (last == each.last) break;
    }
  }
  return map;
}

}  // namespace

PortSpan span_of(model::Protocol protocol, uint16_t first, uint16_t last) {
  const auto place = static_cast<uint32_t>(std::ranges::find(kProtocols, protocol) - kProtocols.begin());
  return {place * kPortsOfProtocol + first, place * kPortsOfProtocol + last};
}

std::vector<PortPrefix> split_range(uint8_t proto, uint16_t first, uint16_t last) {
  std::vector<PortPrefix> prefixes;
  for (uint32_t port = first; port <= last;) {
    // The largest aligned block that starts here and does not pass the end.
    const uint32_t aligned = port == 0 ? 1U << 16 : port & (~port + 1);
    const uint32_t size = std::min(aligned, std::bit_floor(static_cast<uint32_t>(last) - port + 1));
    prefixes.push_back(
        {proto, static_cast<uint16_t>(port), static_cast<uint8_t>(16 - std::countr_zero(size))});
    port += size;
  }
  return prefixes;
}

PortSpans whole_line() {
  return {{0, kLineEnd}};
}

PortSpans merged(PortSpans spans) {
  std::ranges::sort(spans);
  PortSpans result;
  for (const PortSpan& each : spans) {
    if (!result.empty() && each.first <= result.back().last + 1) {
      result.back().last = std::max(result.back().last, each.last);
    } else {
      result.push_back(each);
    }
  }
  return result;
}

void PortMapBuilder::decide(const PortSpans& spans, PolicyVerdict verdict) {
  PortSpans left;
  cut(open_, spans, [&](const PortSpan& piece, bool inside) {
    if (inside) {
      decided_.emplace_back(piece, verdict);
    } else {
      left.push_back(piece);
    }
  });
  open_ = std::move(left);
}

void PortMapBuilder::pass(const PortSpans& spans) {
  PortSpans left;
  cut(open_, spans, [&](const PortSpan& piece, bool inside) { (inside ? passed_ : left).push_back(piece); });
  open_ = std::move(left);
}

void PortMapBuilder::end_tier() {
  if (passed_.empty()) return;
  open_.insert(open_.end(), passed_.begin(), passed_.end());
  open_ = merged(std::move(open_));
  passed_.clear();
}

PortMap PortMapBuilder::finish(PolicyVerdict rest) && {
  end_tier();
  for (const PortSpan& each : open_) decided_.emplace_back(each, rest);
  std::ranges::sort(decided_, {}, [](const auto& each) { return each.first; });
  PortMap map;
  for (const auto& [span, verdict] : decided_) {
    if (!map.stretches.empty() && map.stretches.back().verdict == verdict) {
      map.stretches.back().last = span.last;
    } else {
      map.stretches.push_back({span.last, verdict});
    }
  }
  return map;
}

PortMap audited(const PortMap& in_force, const PortMap& with_audited) {
  return combine(in_force, with_audited, [](const PolicyVerdict& now, const PolicyVerdict& then) {
    const bool audit = now.verdict == POLICY_ALLOW && then.verdict == POLICY_DENY;
    return audit ? PolicyVerdict{then.rule, POLICY_AUDIT} : now;
  });
}

PortMap strictest(const PortMap& first, const PortMap& second) {
  const auto leniency = [](const PolicyVerdict& verdict) {
    return verdict.verdict == POLICY_DENY ? 0 : verdict.verdict == POLICY_AUDIT ? 1 : 2;
  };
  return combine(first, second, [&](const PolicyVerdict& a, const PolicyVerdict& b) {
    return leniency(b) < leniency(a) ? b : a;
  });
}

PrefixVerdicts to_prefixes(const PortMap& map, const PortMap& otherwise) {
  if (map == otherwise) return {};
  const std::vector<Piece> pieces = compare(map, otherwise);
  return Compressor(pieces).run();
}

PortMap uniform(PolicyVerdict verdict) {
  return {{{kLineEnd, verdict}}};
}

}  // namespace bpfnet::compile
