#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "control/ipam/range.h"
#include "control/ipam/records.h"

// What plugin and agent say to each other, and what an ADD results in.
namespace bpfnet::cni {

using ipam::AttachmentKey;

struct ResultInterface {
  std::string name;
  std::string mac;
  uint32_t mtu = 0;     ///< 0: not told
  std::string sandbox;  ///< empty: on the host
  bool operator==(const ResultInterface&) const = default;
};

struct ResultIp {
  Address address;
  int prefix_length = 0;
  std::optional<Address> gateway;
  std::optional<int> interface;  ///< index into the interfaces
  bool operator==(const ResultIp&) const = default;
};

struct ResultRoute {
  Cidr dst;
  std::optional<Address> gateway;
  uint32_t mtu = 0;  ///< 0: not told; likewise the others
  uint32_t advmss = 0;
  uint32_t priority = 0;
  std::optional<uint32_t> table;
  std::optional<uint8_t> scope;
  bool operator==(const ResultRoute&) const = default;
};

struct ResultDns {
  std::vector<std::string> nameservers;
  std::string domain;
  std::vector<std::string> search;
  std::vector<std::string> options;
  [[nodiscard]] bool empty() const {
    return nameservers.empty() && domain.empty() && search.empty() && options.empty();
  }
  bool operator==(const ResultDns&) const = default;
};

/// The result of an ADD, in the shape of the newest version (C2, C10); result.h reads and writes the others.
struct AddResult {
  std::vector<ResultInterface> interfaces;
  std::vector<ResultIp> ips;
  std::vector<ResultRoute> routes;
  ResultDns dns;
  bool operator==(const AddResult&) const = default;
};

/// One container interface wanted.
struct AddRequest {
  AttachmentKey key;
  std::string netns;    ///< path, as the agent can open it
  std::string network;  ///< `name` of the network configuration
  model::ObjectName pod;
  std::string pod_uid;
  std::vector<Address> ips;  ///< wanted addresses
  std::vector<ipam::RangeSet> ranges;
  std::optional<Mac> mac;
  uint32_t mtu = 0;  ///< 0: the agent's default
  std::vector<ipam::HostPort> host_ports;
  /// What a delegated IPAM plugin gave; missing: the agent's own pools.
  struct Delegated {
    std::vector<Address> ips;
    std::vector<Cidr> routes;
  };
  std::optional<Delegated> delegated;
};

struct AddReply {
  uint16_t endpoint = 0;
  AddResult result;
};

struct CheckRequest {
  AttachmentKey key;
  std::string netns;
  AddResult prev_result;
};

struct DeleteRequest {
  AttachmentKey key;
  std::string netns;  ///< may be empty (C11)
};

struct GcRequest {
  std::string network;
  std::vector<AttachmentKey> valid;
};

/// `bpn` and 12 hex digits of a hash of the key: the host side of the pair can be found without any record.
std::string host_ifname(const AttachmentKey& key);

}  // namespace bpfnet::cni
