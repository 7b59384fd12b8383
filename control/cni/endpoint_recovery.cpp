// Endpoints that nobody asked to delete but that must go: half-made, orphaned, or named by a GC.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "control/cni/endpoint_manager.h"
#include "control/cni/pending_deletes.h"
#include "loader/netlink.h"

namespace bpfnet::cni {

using ipam::EndpointRecord;
using ipam::EndpointState;

CniResult<void> EndpointManager::gc(const GcRequest& request) {
  finish_pending_deletes();
  auto endpoints = store_.endpoints();
  if (!endpoints) return refuse(ErrorCode::kOther, "{}", endpoints.error().message);
  std::string problems;
  for (const EndpointRecord& seen : *endpoints) {
    if (seen.network != request.network) continue;
    if (std::find(request.valid.begin(), request.valid.end(), seen.key) != request.valid.end()) continue;
    const ContainerLock lock(locks_, seen.key.container_id);
    auto record = store_.endpoint(seen.key);
    Status removed = ok();
    if (!record) removed = pass(record);
    // An ADD that was under way and has finished meanwhile is younger than the list of valid ones.
    const bool younger = record && *record && seen.state == EndpointState::kCreating &&
                         (*record)->state == EndpointState::kReady;
    if (record && *record && !younger) removed = remove(**record);
    if (removed) continue;
    problems +=
        fmt::format("{}{}: {}", problems.empty() ? "" : "; ", seen.key.to_string(), removed.error().message);
  }
  if (!problems.empty()) return refuse(ErrorCode::kOther, "gc of network {}: {}", request.network, problems);
  return {};
}

Result<std::vector<LiveEndpoint>> EndpointManager::recover() {
  finish_pending_deletes();
  auto records = store_.endpoints();
  if (!records) return pass(records, "recover endpoints");
  auto netlink = loader::Netlink::open(own_netns_.get());
  if (!netlink) return pass(netlink, "recover endpoints");
  for (const EndpointRecord& record : *records) {
    // Only the kernel's plain "no such device" counts as gone; any other error keeps the endpoint.
    auto link = netlink->link(record.host_ifname);
    if (!link) {
      spdlog::warn("endpoint {}: {}", record.key.to_string(), link.error().message);
      continue;
    }
    if (record.state == EndpointState::kReady && *link) continue;
    spdlog::info("endpoint {} ({}): {}, removing what is left of it", record.key.to_string(),
                 to_string(record.state), *link ? "unfinished" : "its device is gone");
    const ContainerLock lock(locks_, record.key.container_id);
    if (auto removed = remove(record); !removed) {
      spdlog::error("endpoint {}: {}", record.key.to_string(), removed.error().message);
    }
  }
  return endpoints();
}

void EndpointManager::finish_pending_deletes() {
  std::vector<std::string> problems;
  for (const PendingDelete& pending : read_pending_deletes(options_.pending_deletes, problems)) {
    const ContainerLock lock(locks_, pending.request.key.container_id);
    // An ADD may have dealt with it while we waited.
    if (::access(pending.file.c_str(), F_OK) != 0) continue;
    if (auto removed = remove_key(pending.request.key); !removed) {
      problems.push_back(fmt::format("{}: {}", pending.file, removed.error().message));
      continue;
    }
    ::unlink(pending.file.c_str());
  }
  for (const std::string& problem : problems) spdlog::error("pending delete: {}", problem);
}

Result<bool> EndpointManager::device_vanished(const std::string& device) {
  auto records = store_.endpoints();
  if (!records) return pass(records);
  const auto seen = std::find_if(records->begin(), records->end(),
                                 [&](const EndpointRecord& each) { return each.host_ifname == device; });
  if (seen == records->end()) return false;
  const ContainerLock lock(locks_, seen->key.container_id);
  auto record = store_.endpoint(seen->key);
  if (!record) return pass(record);
  if (!*record) return false;
  auto netlink = loader::Netlink::open(own_netns_.get());
  if (!netlink) return pass(netlink);
  auto link = netlink->link(device);
  if (!link) return pass(link);
  if (*link) return false;
  BPFNET_TRY(remove(**record));
  return true;
}

Result<std::vector<LiveEndpoint>> EndpointManager::endpoints() const {
  auto records = store_.endpoints();
  if (!records) return pass(records);
  auto netlink = loader::Netlink::open(own_netns_.get());
  if (!netlink) return pass(netlink);
  auto links = netlink->links();
  if (!links) return pass(links);
  std::map<std::string, int> by_name;
  for (const loader::Link& link : *links) by_name.emplace(link.name, link.ifindex);
  std::vector<LiveEndpoint> live;
  for (EndpointRecord& record : *records) {
    const auto device = by_name.find(record.host_ifname);
    if (record.state != EndpointState::kReady || device == by_name.end()) continue;
    live.push_back({std::move(record), device->second});
  }
  return live;
}

}  // namespace bpfnet::cni
