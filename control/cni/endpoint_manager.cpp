#include "control/cni/endpoint_manager.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "control/cni/pending_deletes.h"
#include "control/cni/pod_network.h"
#include "loader/netlink.h"
#include "loader/netns.h"

namespace bpfnet::cni {
namespace {

using ipam::EndpointRecord;
using ipam::EndpointState;

tl::unexpected<CniError> other(const Error& error) {
  return refuse(ErrorCode::kOther, "{}", error.message);
}

CniResult<Fd> open_container(const std::string& path, int own_netns) {
  auto netns = loader::open_netns(path);
  if (!netns) {
    const bool gone = netns.error().code == ENOENT || netns.error().code == ENOTDIR;
    return refuse(gone ? ErrorCode::kUnknownContainer : ErrorCode::kBadEnvironment, "CNI_NETNS: {}",
                  netns.error().message);
  }
  auto theirs = loader::netns_id(netns->get());
  auto ours = loader::netns_id(own_netns);
  if (!theirs) return other(theirs.error());
  if (!ours) return other(ours.error());
  if (*theirs == *ours)
    return refuse(ErrorCode::kOwnNetns, "CNI_NETNS {} is the node's own network namespace", path);
  return std::move(*netns);
}

EndpointRecord new_record(const AddRequest& request, uint32_t default_mtu) {
  EndpointRecord record;
  record.key = request.key;
  record.network = request.network;
  record.netns = request.netns;
  record.pod = request.pod;
  record.pod_uid = request.pod_uid;
  record.host_ifname = host_ifname(request.key);
  record.mac = request.mac.value_or(Mac::random());
  record.host_mac = Mac::random();
  record.mtu = request.mtu != 0 ? request.mtu : default_mtu;
  record.host_ports = request.host_ports;
  record.delegated_ipam = request.delegated.has_value();
  if (request.delegated) record.ips = request.delegated->ips;
  return record;
}

std::string owner_name(const EndpointRecord& record) {
  return record.pod.name.empty() ? "container " + record.key.to_string()
                                 : fmt::format("pod {} ({})", record.pod.to_string(), record.key.to_string());
}

std::vector<ResultRoute> routes_of(const AddRequest& request, const EndpointRecord& record) {
  return pod_routes(record, request.delegated ? request.delegated->routes : std::vector<Cidr>{});
}

AddResult result_of(const EndpointRecord& record, const std::vector<ResultRoute>& routes) {
  AddResult result;
  result.interfaces = {{record.host_ifname, record.host_mac.to_string(), record.mtu, {}},
                       {record.key.ifname, record.mac.to_string(), record.mtu, record.netns}};
  for (const Address& ip : record.ips) result.ips.push_back({ip, ip.bits(), gateway(ip.family()), 1});
  result.routes = routes;
  return result;
}

}  // namespace

std::string_view to_string(AddStep step) {
  switch (step) {
    case AddStep::kRecorded:
      return "recorded";
    case AddStep::kLeased:
      return "leased";
    case AddStep::kLinked:
      return "linked";
    case AddStep::kPublished:
      return "published";
    case AddStep::kAddressed:
      return "addressed";
    case AddStep::kReady:
      return "ready";
  }
  return "unknown";
}

EndpointManager::EndpointManager(Options options, Fd own_netns, ipam::Store& store,
                                 ipam::Allocator& allocator, EndpointHooks& hooks)
    : options_(std::move(options)),
      default_mtu_(options_.default_mtu),
      own_netns_(std::move(own_netns)),
      store_(store),
      allocator_(allocator),
      hooks_(hooks) {}

Result<std::unique_ptr<EndpointManager>> EndpointManager::open(Options options, ipam::Store& store,
                                                               ipam::Allocator& allocator,
                                                               EndpointHooks& hooks) {
  auto netns = loader::current_netns();
  if (!netns) return pass(netns, "endpoint manager");
  return std::unique_ptr<EndpointManager>(
      new EndpointManager(std::move(options), std::move(*netns), store, allocator, hooks));
}

CniResult<AddReply> EndpointManager::add(const AddRequest& request) {
  if (auto ready = hooks_.ready(); !ready) {
    return refuse(ErrorCode::kTryAgain, "agent is not ready: {}", ready.error().message);
  }
  const ContainerLock lock(locks_, request.key.container_id);
  auto netns = open_container(request.netns, own_netns_.get());
  if (!netns) return forward_error(netns);
  if (auto cleared = clear_leftovers(request.key); !cleared) return forward_error(cleared);
  if (auto absent = refuse_existing(netns->get(), request.key.ifname); !absent) return forward_error(absent);

  EndpointRecord record = new_record(request, default_mtu_);
  if (auto claimed = claim(record); !claimed) return forward_error(claimed);
  auto built = build(request, record, netns->get());
  if (built) return AddReply{record.index, result_of(record, routes_of(request, record))};
  if (auto undone = remove(record); !undone) {
    spdlog::error("endpoint {}: undo of the failed ADD: {}; DEL or the next start will finish it",
                  record.key.to_string(), undone.error().message);
  }
  return forward_error(built);
}

CniResult<void> EndpointManager::clear_leftovers(const AttachmentKey& key) {
  // A DEL that waited for an agent comes before this ADD.
  const std::string pending = pending_delete_file(options_.pending_deletes, key);
  const bool deleted = ::access(pending.c_str(), F_OK) == 0;
  auto record = store_.endpoint(key);
  if (!record) return other(record.error());
  if (*record && !deleted && (*record)->state == EndpointState::kReady) {
    auto netlink = loader::Netlink::open(own_netns_.get());
    if (!netlink) return other(netlink.error());
    auto link = netlink->link((*record)->host_ifname);
    if (!link) return other(link.error());
    if (*link) {
      return refuse(ErrorCode::kInterfaceExists, "{} exists already as endpoint {} with {}; DEL it first",
                    key.to_string(), (*record)->index, (*record)->host_ifname);
    }
  }
  if (*record || deleted) {
    if (auto removed = remove_key(key); !removed) return other(removed.error());
  }
  if (deleted) ::unlink(pending.c_str());
  return {};
}

CniResult<void> EndpointManager::claim(EndpointRecord& record) {
  // From the look at the others to the record that claims the ports: one ADD at a time.
  const std::scoped_lock guard(claims_);
  for (const ipam::HostPort& port : record.host_ports) {
    if (const auto holder = hooks_.port_holder(port))
      return refuse(ErrorCode::kHostPortTaken, "hostPort {} of {} is taken by {}", port.to_string(),
                    owner_name(record), *holder);
  }
  if (!record.host_ports.empty() || record.delegated_ipam) {
    auto others = store_.endpoints();
    if (!others) return other(others.error());
    for (const EndpointRecord& each : *others) {
      if (auto free = refuse_conflict(record, each); !free) return free;
    }
  }
  if (auto put = store_.put_endpoint(record); !put) return other(put.error());
  hooks_.reached(record.key, AddStep::kRecorded);
  return {};
}

CniResult<void> EndpointManager::refuse_conflict(const EndpointRecord& wanted,
                                                 const EndpointRecord& present) const {
  if (wanted.key == present.key) return {};
  for (const ipam::HostPort& ours : wanted.host_ports) {
    for (const ipam::HostPort& theirs : present.host_ports) {
      if (!ours.conflicts_with(theirs)) continue;
      return refuse(ErrorCode::kHostPortTaken, "hostPort {} of {} is taken by {}, which has {}",
                    ours.to_string(), owner_name(wanted), owner_name(present), theirs.to_string());
    }
  }
  if (!wanted.delegated_ipam) return {};
  for (const Address& ip : wanted.ips) {
    if (std::find(present.ips.begin(), present.ips.end(), ip) == present.ips.end()) continue;
    return refuse(ErrorCode::kInvalidConfig, "the IPAM plugin gave {} to {}, but {} has it", ip.to_string(),
                  owner_name(wanted), owner_name(present));
  }
  return {};
}

CniResult<void> EndpointManager::lease(const AddRequest& request, EndpointRecord& record) {
  auto addresses = allocator_.allocate({request.key, request.network, request.ips, request.ranges});
  if (!addresses) {
    using Kind = ipam::AllocationError::Kind;
    const Kind kind = addresses.error().kind;
    const ErrorCode code = kind == Kind::kInvalid ? ErrorCode::kInvalidConfig
                           : kind == Kind::kStore ? ErrorCode::kOther
                                                  : ErrorCode::kTryAgain;
    return refuse(code, "{}", addresses.error().message);
  }
  record.ips = std::move(*addresses);
  if (auto put = store_.put_endpoint(record); !put) return other(put.error());
  return {};
}

CniResult<void> EndpointManager::build(const AddRequest& request, EndpointRecord& record, int netns_fd) {
  if (!request.delegated) {
    if (auto leased = lease(request, record); !leased) return leased;
  }
  hooks_.reached(record.key, AddStep::kLeased);

  auto host_ifindex = create_pair(own_netns_.get(), netns_fd, record);
  if (!host_ifindex) return other(host_ifindex.error());
  hooks_.reached(record.key, AddStep::kLinked);

  // Programs and policy first, both sides down: no packet passes before its verdict is in place.
  if (auto published = hooks_.publish({record, *host_ifindex}); !published) {
    return other(published.error().wrap("publish"));
  }
  hooks_.reached(record.key, AddStep::kPublished);

  auto configured =
      configure_pair(own_netns_.get(), netns_fd, *host_ifindex, record, routes_of(request, record));
  if (!configured) return other(configured.error());
  hooks_.reached(record.key, AddStep::kAddressed);

  if (auto set = store_.set_endpoint_state(record.key, EndpointState::kReady); !set)
    return other(set.error());
  record.state = EndpointState::kReady;
  hooks_.reached(record.key, AddStep::kReady);
  return {};
}

Status EndpointManager::remove(const EndpointRecord& record) {
  BPFNET_TRY(store_.set_endpoint_state(record.key, EndpointState::kDeleting));
  if (auto withdrawn = hooks_.withdraw(record); !withdrawn) return pass(withdrawn, "withdraw");
  auto netlink = loader::Netlink::open(own_netns_.get());
  if (!netlink) return pass(netlink);
  BPFNET_TRY(netlink->delete_link(record.host_ifname));
  // Last: while the record is there, a restart finds the rest of the work.
  return store_.remove_endpoint(record.key);
}

Status EndpointManager::remove_key(const AttachmentKey& key) {
  auto record = store_.endpoint(key);
  if (!record) return pass(record);
  if (*record) return remove(**record);
  // No record, but perhaps its device: the database may have been lost.
  auto netlink = loader::Netlink::open(own_netns_.get());
  if (!netlink) return pass(netlink);
  BPFNET_TRY(netlink->delete_link(host_ifname(key)));
  return store_.remove_leases(key);
}

CniResult<void> EndpointManager::del(const DeleteRequest& request) {
  const ContainerLock lock(locks_, request.key.container_id);
  if (auto removed = remove_key(request.key); !removed)
    return other(removed.error().wrap(request.key.to_string()));
  return {};
}

CniResult<void> EndpointManager::check(const CheckRequest& request) {
  const ContainerLock lock(locks_, request.key.container_id);
  const auto failed = [&](std::string_view why) {
    return refuse(ErrorCode::kCheckFailed, "check {}: {}", request.key.to_string(), why);
  };
  auto netns = open_container(request.netns, own_netns_.get());
  if (!netns) return forward_error(netns);
  auto record = store_.endpoint(request.key);
  if (!record) return other(record.error());
  if (!*record || (*record)->state != EndpointState::kReady) return failed("no such endpoint on this node");
  const EndpointRecord& endpoint = **record;
  if (!endpoint.delegated_ipam) {
    auto leases = store_.leases_of(request.key);
    if (!leases) return other(leases.error());
    for (const Address& ip : endpoint.ips) {
      const bool leased = std::find(leases->begin(), leases->end(), ip) != leases->end();
      if (!leased) return failed(fmt::format("the lease of {} is gone", ip.to_string()));
    }
  }
  auto netlink = loader::Netlink::open(own_netns_.get());
  if (!netlink) return other(netlink.error());
  auto link = netlink->link(endpoint.host_ifname);
  if (!link) return other(link.error());
  if (!*link) return failed(fmt::format("host device {} is gone", endpoint.host_ifname));
  if (auto pod = check_pod(netns->get(), endpoint, request.netns, request.prev_result); !pod) {
    return failed(pod.error().message);
  }
  if (auto verified = hooks_.verify({endpoint, (*link)->ifindex}); !verified) {
    return failed(verified.error().message);
  }
  return {};
}

CniResult<void> EndpointManager::status(bool own_ipam) {
  if (auto ready = hooks_.ready(); !ready) {
    return refuse(ErrorCode::kUnavailable, "agent is not ready: {}", ready.error().message);
  }
  finish_pending_deletes();
  if (!own_ipam) return {};
  if (auto left = allocator_.available(); !left)
    return refuse(ErrorCode::kUnavailable, "{}", left.error().message);
  return {};
}

}  // namespace bpfnet::cni
