#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "control/observe/names.h"

namespace bpfnet::observe {

/// The agent's names while its state changes: whoever follows events for hours would else explain them by
/// names of yesterday. Asking costs one short request, four more when the agent has synced since.
class FreshNames {
 public:
  explicit FreshNames(std::string socket);

  /// The names now, looked at again at most four times a second. Without an agent the last ones it gave.
  const Names& get();

 private:
  /// Tells one state of one run of the agent from another; nullopt: no agent.
  [[nodiscard]] std::optional<std::string> stamp() const;
  void ask(std::optional<std::string> stamp);

  std::string socket_;
  std::optional<std::string> stamp_;
  std::chrono::steady_clock::time_point asked_;
  Names names_;
};

}  // namespace bpfnet::observe
