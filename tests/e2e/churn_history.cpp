#include "tests/e2e/churn_history.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::e2e::churn {

History::History(size_t nodes) : shown_(nodes) {
  append({}, "nothing yet", "");
  for (size_t node = 0; node < nodes; node++) visible(node, 0);
}

size_t History::append(World world, std::string what, std::string subject) {
  const std::lock_guard lock(mutex_);
  const size_t number = versions_.size();
  versions_.push_back(std::make_shared<const Version>(
      Version{number, std::move(world), std::move(what), std::move(subject), Clock::now()}));
  return number;
}

void History::visible(size_t node, size_t number) {
  const std::lock_guard lock(mutex_);
  shown_.at(node).push_back({number, Clock::now()});
}

VersionPtr History::latest() const {
  const std::lock_guard lock(mutex_);
  return versions_.back();
}

VersionPtr History::at(size_t number) const {
  const std::lock_guard lock(mutex_);
  return versions_.at(number);
}

Versions History::in_force(size_t node, Clock::time_point from, Clock::time_point to) const {
  const std::lock_guard lock(mutex_);
  const auto& shown = shown_.at(node);
  const auto later =
      std::ranges::find_if(shown.rbegin(), shown.rend(), [&](const Shown& each) { return each.from < from; });
  const size_t oldest = later == shown.rend() ? 0 : later->number;
  Versions result;
  for (size_t i = oldest; i < versions_.size(); i++)
    if (i == oldest || versions_[i]->begun <= to) result.push_back(versions_[i]);
  return result;
}

std::string History::around(size_t first, size_t last) const {
  constexpr size_t kBefore = 6;
  constexpr size_t kAfter = 3;
  const std::lock_guard lock(mutex_);
  std::string text;
  for (size_t i = first - std::min(first, kBefore); i < std::min(versions_.size(), last + kAfter); i++)
    text += line(i);
  return text;
}

std::string History::of(const std::string& service, size_t first, size_t last) const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (size_t i = first; i < std::min(versions_.size(), last + 1); i++)
    if (versions_[i]->subject == service) text += line(i);
  return text;
}

std::string History::line(size_t number) const {
  std::string text =
      fmt::format("  #{} begun at {} ms: {}", number, milliseconds_since(start_, versions_[number]->begun),
                  versions_[number]->what);
  for (const auto& shown : shown_) {
    const auto seen = std::ranges::find_if(shown, [&](const Shown& each) { return each.number >= number; });
    text += seen == shown.end() ? "; not yet" : "; " + milliseconds_since(start_, seen->from);
  }
  return text + "\n";
}

std::string History::milliseconds_since(Clock::time_point from, Clock::time_point to) {
  return fmt::format("{:.1f}", std::chrono::duration<double, std::milli>(to - from).count());
}

std::string service_text(const World& world, const std::string& service) {
  const auto found = world.services.find(service);
  return found == world.services.end() ? "" : found->second.service_yaml();
}

std::string slices_text(const World& world, const std::string& service) {
  const auto found = world.slices.find(service);
  if (found == world.slices.end()) return "";
  std::string text;
  for (size_t i = 0; i < found->second.size(); i++) {
    const Slices& slices = found->second[i];
    ServiceManifest manifest;
    manifest.name = service;
    manifest.ports = slices.ports;
    // Which families there are to be; the addresses themselves do not show.
    manifest.cluster_ips = {Address::parse("192.0.2.0").value(), Address::parse("2001:db8::").value()};
    text += manifest.more_slices(fmt::format("-{}", i), slices.backends);
  }
  return text;
}

}  // namespace bpfnet::e2e::churn
