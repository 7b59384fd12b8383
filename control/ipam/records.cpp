#include "control/ipam/records.h"

namespace bpfnet::ipam {

std::string HostPort::to_string() const {
  const std::string first =
      fmt::format("{} {}:{}", model::to_string(protocol), host_ip ? host_ip->to_string() : "*", host_port);
  return count > 1 ? fmt::format("{}-{}", first, last()) : first;
}

bool HostPort::conflicts_with(const HostPort& other) const {
  if (protocol != other.protocol || last() < other.host_port || other.last() < host_port) return false;
  if (!host_ip || !other.host_ip) return true;
  if (host_ip->family() != other.host_ip->family()) return false;
  return host_ip == other.host_ip || host_ip->is_unspecified() || other.host_ip->is_unspecified();
}

std::string_view to_string(EndpointState state) {
  switch (state) {
    case EndpointState::kCreating:
      return "creating";
    case EndpointState::kReady:
      return "ready";
    case EndpointState::kDeleting:
      return "deleting";
  }
  return "unknown";
}

}  // namespace bpfnet::ipam
