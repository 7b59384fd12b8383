#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <memory>
#include <vector>

#include "control/apply/service_publisher.h"
#include "maps/convert.h"
#include "tests/support/addresses.h"
#include "tests/unit/apply_memory_maps.h"

namespace bpfnet::apply {

inline compile::FrontendAddress vip(uint16_t port, uint8_t proto = IPPROTO_TCP) {
  return {.ip = ip("10.96.0.1"), .port = port, .proto = proto};
}

inline compile::Frontend web(const std::vector<compile::Backend>& backends,
                             const char* name = "default/web:http") {
  return {.service = name, .internal = backends, .external = backends, .flags = FRONTEND_CLUSTER_IP};
}

inline const compile::Backend kA{.ip = ip("10.0.0.1"), .port = 8080};
inline const compile::Backend kB{.ip = ip("10.0.0.2"), .port = 8080};
inline const compile::Backend kC{.ip = ip("10.0.0.3"), .port = 8080};

/// A publisher over maps that survive it.
class Services : public testing::Test {
 protected:
  Services() { start(); }

  void start() {
    publisher_.reset();
    writer_ = maps_.writer();
    publisher_ = std::make_unique<ServicePublisher>(
        writer_,
        ServicePublisher::Options{.grace = std::chrono::milliseconds(100), .clock = [this] { return now_; }});
    ASSERT_TRUE(publisher_->adopt());
    maps_.log.clear();
  }
  Problems publish(const compile::ServiceImage& image, const ServingBackends& serving = {}) {
    numbers_.assign(image);
    Problems problems;
    maps_.log.clear();
    publisher_->publish({.image = image, .numbers = numbers_, .serving = serving}, now_, problems);
    return problems;
  }
  /// Tells the publisher where to look.
  Problems publish_changed(const compile::ServiceImage& image,
                           const std::set<compile::FrontendAddress>& changed) {
    numbers_.assign(image, changed);
    const std::set<std::string> no_keys;
    Problems problems;
    maps_.log.clear();
    publisher_->publish({.image = image,
                         .numbers = numbers_,
                         .serving = {},
                         .frontends = &changed,
                         .serving_keys = &no_keys,
                         .retry = false},
                        now_, problems);
    return problems;
  }
  const frontend& value(const compile::FrontendAddress& address) const {
    return maps_.frontends.at(
        maps::make_frontend_key(address.ip, address.port, address.proto, address.scope, address.net));
  }
  /// What a packet would find behind a frontend.
  std::vector<compile::Backend> backends(const compile::FrontendAddress& address) const {
    auto found = maps_.frontends.find(
        maps::make_frontend_key(address.ip, address.port, address.proto, address.scope, address.net));
    if (found == maps_.frontends.end()) return {};
    std::vector<compile::Backend> list;
    for (uint32_t i = 0; i < found->second.count; ++i) {
      const backend_slot& slot = maps_.backend_slots.at(found->second.first + i);
      list.push_back({.ip = maps::from_abi(slot.addr), .port = ntohs(slot.port)});
    }
    return list;
  }
  backend_slot slot(const compile::FrontendAddress& address, uint32_t i) const {
    return maps_.backend_slots.at(value(address).first + i);
  }
  uint32_t generation(uint32_t backend) const { return maps_.backend_states.at(backend).generation; }

  MemoryMaps maps_;
  MapWriter writer_;
  ServiceNumbers numbers_;
  std::unique_ptr<ServicePublisher> publisher_;
  Clock::time_point now_{};
};

}  // namespace bpfnet::apply
