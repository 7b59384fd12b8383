#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "control/model/objects.h"

namespace bpfnet::ipam {

/// What every lease and endpoint is keyed by (C12): a late DEL of one container never touches another's.
struct AttachmentKey {
  std::string container_id;
  std::string ifname;
  auto operator<=>(const AttachmentKey&) const = default;
  /// `container/ifname`, for messages.
  [[nodiscard]] std::string to_string() const { return container_id + "/" + ifname; }
};

/// A port of the node, or a range of them, that leads to a port of one container (C21).
struct HostPort {
  uint16_t host_port = 0;       ///< of a range: the first
  uint16_t container_port = 0;  ///< of a range: the first
  model::Protocol protocol = model::Protocol::kTcp;
  std::optional<Address> host_ip;  ///< missing: every local address; 0.0.0.0 or ::: those of one family
  uint16_t count = 1;              ///< ports in the range
  bool operator==(const HostPort&) const = default;
  [[nodiscard]] uint16_t last() const { return static_cast<uint16_t>(host_port + count - 1); }
  /// `TCP 10.0.0.1:8080`, `TCP *:8000-8099`, for messages.
  [[nodiscard]] std::string to_string() const;
  /// Whether both ask for one port of one address. No address stands for all of them.
  [[nodiscard]] bool conflicts_with(const HostPort& other) const;
};

/// Written before the work it announces begins: whatever state a killed agent leaves, the next one knows
/// what to undo.
enum class EndpointState : uint8_t {
  kCreating = 1,  ///< an ADD is under way or was cut off: undo
  kReady = 2,
  kDeleting = 3,  ///< a DEL is under way or was cut off: finish
};
std::string_view to_string(EndpointState state);

/// One interface of one container, as this node made it.
struct EndpointRecord {
  AttachmentKey key;
  std::string network;    ///< `name` of the network configuration
  std::string netns;      ///< path of the container's network namespace
  model::ObjectName pod;  ///< empty name: a container of no pod
  std::string pod_uid;
  uint16_t index = 0;       ///< endpoint index of the datapath, 1-4095
  std::string host_ifname;  ///< host side of the veth pair
  Mac mac;                  ///< pod side
  Mac host_mac;             ///< host side, the pod's gateway
  uint32_t mtu = 0;
  std::vector<Address> ips;
  std::vector<HostPort> host_ports;
  bool delegated_ipam = false;  ///< the addresses belong to another IPAM plugin
  EndpointState state = EndpointState::kCreating;
  bool operator==(const EndpointRecord&) const = default;
};

/// A change made to the host, with what stood there before: audited, and undone by `--cleanup`.
struct JournalEntry {
  std::string kind;    ///< `sysctl`, `route`, `device`, ...
  std::string object;  ///< `net/ipv4/conf/lo/accept_local`, `10.0.0.0/24 dev bpfnet0`, ...
  std::string before;  ///< the value found by the very first change; empty: there was none
  std::string after;
  bool operator==(const JournalEntry&) const = default;
};

}  // namespace bpfnet::ipam
