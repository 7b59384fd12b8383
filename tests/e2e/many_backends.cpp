#include "tests/e2e/many_backends.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::e2e {
namespace {

double milliseconds_between(Lifetimes::Clock::time_point from, Lifetimes::Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

ManyBackends::ManyBackends(Network& network, const std::string& netns_name)
    : host_(netns_name, Address::parse("192.0.2.150").value(), Address::parse("2001:db8:1::150").value()) {
  network.attach(host_, "backends");
  host_.netns().ip(fmt::format("route add local {} dev lo", kPrefix));
  server_.emplace(host_.netns(), "", Pod::kPort);
}

void ManyBackends::route_from(const Node& node) const {
  node.netns().ip(fmt::format("route add {} via {}", kPrefix, host_.ip(Family::kIpv4).to_string()));
}

void Lifetimes::begin(const Address& backend) {
  const std::lock_guard lock(mutex_);
  lives_[backend] = {.begin = Clock::now(), .end = {}};
}

void Lifetimes::end(const Address& backend) {
  const std::lock_guard lock(mutex_);
  Life& life = lives_.at(backend);
  if (!life.end) life.end = Clock::now();
}

std::string Lifetimes::wrong(const std::string& backend, Clock::time_point from, Clock::time_point to) {
  const std::lock_guard lock(mutex_);
  const auto address = Address::parse(backend);
  const auto life = address ? lives_.find(*address) : lives_.end();
  if (life == lives_.end()) return backend + " never was a backend";
  life->second.answered = true;
  if (life->second.begin > to)
    return fmt::format("{} became a backend {:.3f} ms after the end", backend,
                       milliseconds_between(to, life->second.begin));
  if (life->second.end && *life->second.end <= from)
    return fmt::format("{} was seen to be no backend any more {:.3f} ms before the beginning", backend,
                       milliseconds_between(*life->second.end, from));
  return {};
}

size_t Lifetimes::answered() const {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(
      std::ranges::count_if(lives_, [](const auto& each) { return each.second.answered; }));
}

}  // namespace bpfnet::e2e
