#pragma once

#include <optional>
#include <string>

#include "base/address.h"
#include "base/result.h"
#include "control/observe/names.h"
#include "maps/abi/flow.h"
#include "maps/maps.h"

namespace bpfnet::observe {

/// The filters of `bpfnetctl flow list` as typed.
struct FlowFilterText {
  std::optional<std::string> source;
  std::optional<std::string> destination;
  std::optional<std::string> port;
  std::optional<std::string> protocol;
  std::optional<std::string> state;
  std::optional<std::string> endpoint;
};

/// Which connections to show. All that are given must hold.
struct FlowFilter {
  std::optional<Cidr> source;       ///< holds the client
  std::optional<Cidr> destination;  ///< holds what the client sent to, or the backend
  std::optional<uint16_t> port;     ///< what the client sent to, or the backend's; host byte order
  std::optional<uint8_t> protocol;
  std::optional<uint8_t> state;
  std::optional<uint16_t> endpoint;  ///< either end

  /// `original`: the entry of the client's direction, with its key.
  [[nodiscard]] bool matches(const flow_key& key, const flow& original) const;
};

/// Refuses what it does not understand, saying what it would.
Result<FlowFilter> parse_filter(const FlowFilterText& text, const maps::Maps& maps, const Names& names);

}  // namespace bpfnet::observe
