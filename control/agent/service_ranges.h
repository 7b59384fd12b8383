#pragma once

#include <set>
#include <vector>

#include "base/address.h"
#include "control/model/objects.h"

namespace bpfnet::agent {

/// The ranges of cluster IPs that the agent's flags stand for. Those that somebody named always hold. The
/// defaults of a cluster that nobody named any for are a guess: one holds once a Service has a cluster IP in
/// it, as real hosts may have those addresses elsewhere, and none while ServiceCIDR objects say better.
class ServiceRanges {
 public:
  ServiceRanges(std::vector<Cidr> ranges, bool guessed) : ranges_(std::move(ranges)), guessed_(guessed) {}

  /// After `changed` Services; the ServiceCIDR objects are looked at each time. true: cidrs() are others now.
  bool update(const model::ClusterState& state, const std::set<model::ObjectName>& changed);
  [[nodiscard]] std::vector<Cidr> cidrs() const;

 private:
  std::vector<Cidr> ranges_;
  bool guessed_;
  bool told_ = false;         ///< by ServiceCIDR objects
  std::set<Cidr> confirmed_;  ///< by Services
};

}  // namespace bpfnet::agent
