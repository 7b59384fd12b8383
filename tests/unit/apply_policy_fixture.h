#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <map>
#include <memory>

#include "control/apply/publisher.h"
#include "maps/convert.h"
#include "tests/support/addresses.h"
#include "tests/unit/apply_memory_maps.h"

namespace bpfnet::apply {

using compile::AddressEntry;
using compile::EndpointPolicy;
using compile::PolicyEntry;
using compile::PolicyImage;

inline constexpr uint16_t kWeb = 1;
inline constexpr uint32_t kWebDevice = 11;
inline constexpr uint32_t kClientOld = 256;
inline constexpr uint32_t kClientNew = 257;
inline constexpr uint32_t kWebIdentity = 258;

inline const Address kWebIp = ip("10.0.0.1");
inline const Address kClientIp = ip("10.0.0.2");

inline compile::PolicySet allows(uint32_t identity) {
  return {.entries = {{PolicyEntry{.identity = identity, .proto = IPPROTO_TCP, .port = 80, .port_bits = 16},
                       {7, POLICY_ALLOW}}}};
}

/// web is isolated by set `set`, which lets `client` in.
inline PolicyImage image_of(uint32_t set, uint32_t client, bool with_address = true) {
  PolicyImage image;
  image.sets[set] = allows(client);
  image.identities = {{client, "client"}, {kWebIdentity, "web"}};
  image.endpoints[kWeb] = EndpointPolicy{.identity = kWebIdentity, .ingress_set = set};
  image.addresses[{0, kWebIp}] =
      AddressEntry{.identity = kWebIdentity, .endpoint = kWeb, .flags = ADDRESS_POD | ADDRESS_LOCAL_POD};
  if (with_address) image.addresses[{0, kClientIp}] = AddressEntry{.identity = client, .flags = ADDRESS_POD};
  return image;
}

/// Publishes images to maps in memory.
class Policies : public testing::Test {
 protected:
  Policies() {
    facts_[kWeb] = {.name = "default/web", .ifindex = kWebDevice, .ip4 = kWebIp, .mtu = 1500};
    interface device {};
    device.kind = INTERFACE_POD;
    device.endpoint = kWeb;
    devices_[kWebDevice] = device;
    start();
  }
  void start() {
    publisher_ = std::make_unique<Publisher>(maps_.writer(),
                                             ServicePublisher::Options{.clock = [this] { return now_; }});
    ASSERT_TRUE(publisher_->adopt());
    maps_.log.clear();
  }
  Problems publish(const PolicyImage& image) {
    maps_.log.clear();
    const compile::ServiceImage no_services;
    const ServiceNumbers no_numbers;
    return publisher_->publish({.services = {.image = no_services, .numbers = no_numbers, .serving = {}},
                                .policy = image,
                                .endpoints = facts_,
                                .interfaces = devices_},
                               now_);
  }
  const endpoint& record() const { return maps_.endpoints.at(kWeb); }
  /// The verdict a new connection from the client to port 80 of web would get now.
  bool client_allowed() const {
    auto web = maps_.endpoints.find(kWeb);
    if (web == maps_.endpoints.end() || web->second.state != ENDPOINT_OPEN) return false;
    if (web->second.ingress_set == POLICY_SET_ALLOW_ALL) return true;
    auto client = maps_.addresses.find(maps::make_address_key(kClientIp));
    const uint32_t identity =
        client == maps_.addresses.end() ? uint32_t{IDENTITY_WORLD} : client->second.identity;
    return maps_.policies.contains(
        maps::make_policy_key(web->second.ingress_set, identity, IPPROTO_TCP, 80, 16));
  }

  MemoryMaps maps_;
  std::unique_ptr<Publisher> publisher_;
  std::map<uint16_t, EndpointFacts> facts_;
  std::map<uint32_t, interface> devices_;
  Clock::time_point now_{};
};

}  // namespace bpfnet::apply
