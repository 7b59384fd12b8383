#include "control/agent/sockets.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "loader/netlink.h"
#include "loader/netns.h"
#include "maps/abi/socket.h"

namespace bpfnet::agent {
namespace {

socket_namespace pod_namespace(uint16_t endpoint) {
  socket_namespace record{};
  record.endpoint = endpoint;
  record.kind = SOCKET_POD;
  return record;
}

}  // namespace

Sockets::Mode Sockets::parse_mode(const std::string& text) {
  return text == "on" ? Mode::kOn : text == "off" ? Mode::kOff : Mode::kAuto;
}

Result<uint64_t> Sockets::cookie_of(const cni::LiveEndpoint& endpoint) {
  const ipam::EndpointRecord& record = endpoint.record;
  auto netns = loader::open_netns(record.netns);
  if (!netns) return pass(netns);
  auto netlink = loader::Netlink::open(netns->get());
  if (!netlink) return pass(netlink);
  auto device = netlink->link(record.key.ifname);
  if (!device) return pass(device);
  const bool ours = *device && (*device)->peer_elsewhere &&
                    (*device)->peer_ifindex == endpoint.host_ifindex && (*device)->mac == record.mac;
  if (!ours)
    return fail("netns {}: is another one than at its ADD, or its device {} is", record.netns,
                record.key.ifname);
  return loader::in_netns(netns->get(), loader::netns_cookie);
}

Result<Sockets> Sockets::start(loader::Datapath& datapath, Mode mode, const std::string& cgroup,
                               const std::map<uint16_t, cni::LiveEndpoint>& pods) {
  Sockets sockets(datapath);
  if (mode == Mode::kOff) {
    BPFNET_TRY(datapath.detach_sockets());
    sockets.state_ = "off: --sockets off";
    return sockets;
  }
  // Namespaces first: the programs of an earlier run may be at work.
  Status done = sockets.set_namespaces(pods);
  if (done) done = datapath.attach_sockets(cgroup);
  if (done) {
    sockets.on_ = true;
    sockets.state_ = "on, for processes below " + cgroup;
    return sockets;
  }
  const std::string& why = done.error().message;
  if (mode == Mode::kOn) return pass(done, "--sockets on");
  spdlog::warn("{}: services are translated packet by packet only (say --cgroup DIR, or --sockets off)", why);
  BPFNET_TRY(datapath.detach_sockets());
  sockets.state_ = "off: " + why;
  return sockets;
}

Status Sockets::set_namespaces(const std::map<uint16_t, cni::LiveEndpoint>& pods) {
  const auto& map = datapath_->maps().socket_namespaces;
  auto own = loader::netns_cookie();
  if (!own) return pass(own);
  socket_namespace host{};
  host.kind = SOCKET_HOST;
  BPFNET_TRY(map.put(*own, host));
  for (const auto& [endpoint, live] : pods) {
    auto cookie = cookie_of(live);
    if (!cookie) {
      spdlog::debug("sockets of endpoint {}: {}", endpoint, cookie.error().message);
      continue;
    }
    cookies_[endpoint] = *cookie;
    BPFNET_TRY(map.put(*cookie, pod_namespace(endpoint)));
  }
  auto present = map.entries();
  if (!present) return pass(present);
  for (const auto& [cookie, record] : *present) {
    // A netns whose path is gone, or another's now, may still be in use: no cookie is given out twice, so
    // this one is good as long as the pod is known.
    if (record.kind == SOCKET_POD && pods.contains(record.endpoint))
      cookies_.try_emplace(record.endpoint, cookie);
    const bool known = cookie == *own || std::any_of(cookies_.begin(), cookies_.end(),
                                                     [&](const auto& each) { return each.second == cookie; });
    if (known) continue;
    auto gone = map.erase(cookie);
    if (!gone) return pass(gone);
  }
  return ok();
}

Status Sockets::add_pod(uint16_t endpoint, uint64_t cookie) {
  if (!on_) return ok();
  BPFNET_TRY(remove_pod(endpoint));
  BPFNET_TRY(datapath_->maps().socket_namespaces.put(cookie, pod_namespace(endpoint)));
  cookies_[endpoint] = cookie;
  return ok();
}

Status Sockets::remove_pod(uint16_t endpoint) {
  const auto found = cookies_.find(endpoint);
  if (found == cookies_.end()) return ok();
  const uint64_t cookie = found->second;
  cookies_.erase(found);
  for (const auto& [other, same] : cookies_)
    if (same == cookie) return datapath_->maps().socket_namespaces.put(cookie, pod_namespace(other));
  auto gone = datapath_->maps().socket_namespaces.erase(cookie);
  if (!gone) return pass(gone);
  return ok();
}

}  // namespace bpfnet::agent
