#include "control/agent/service_ranges.h"

#include <algorithm>

namespace bpfnet::agent {

bool ServiceRanges::update(const model::ClusterState& state, const std::set<model::ObjectName>& changed) {
  if (!guessed_) return false;
  const auto before = cidrs();
  told_ = !state.service_cidrs.empty();
  for (const model::ObjectName& name : changed) {
    if (confirmed_.size() == ranges_.size()) break;
    const auto service = state.services.find(name);
    if (service == state.services.end()) continue;
    for (const Address& ip : service->second.cluster_ips)
      for (const Cidr& range : ranges_)
        if (range.contains(ip)) confirmed_.insert(range);
  }
  return cidrs() != before;
}

std::vector<Cidr> ServiceRanges::cidrs() const {
  if (!guessed_) return ranges_;
  if (told_) return {};
  return {confirmed_.begin(), confirmed_.end()};
}

}  // namespace bpfnet::agent
