#include "control/observe/fresh_names.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace bpfnet::observe {
namespace {

constexpr std::chrono::milliseconds kPause{250};

}  // namespace

FreshNames::FreshNames(std::string socket) : socket_(std::move(socket)) {
  ask(stamp());
}

const Names& FreshNames::get() {
  if (std::chrono::steady_clock::now() - asked_ < kPause) return names_;
  auto now = stamp();
  if (now && now != stamp_) ask(std::move(now));
  asked_ = std::chrono::steady_clock::now();
  return names_;
}

std::optional<std::string> FreshNames::stamp() const {
  const auto status = ask_agent(socket_, "/v1/status");
  if (!status || !status->is_object()) return std::nullopt;
  // A restarted agent counts from the beginning, and has written fewer entries.
  std::string text;
  for (const char* field : {"generation", "syncs", "map_writes"})
    text += status->value(field, nlohmann::ordered_json()).dump() + " ";
  return text;
}

// The stamp is older than the names, never newer: what changes meanwhile is seen the next time.
void FreshNames::ask(std::optional<std::string> stamp) {
  Names names = Names::ask(socket_);
  if (names.problem().empty()) stamp_ = std::move(stamp);
  if (names.problem().empty() || !stamp_) names_ = std::move(names);
  asked_ = std::chrono::steady_clock::now();
}

}  // namespace bpfnet::observe
