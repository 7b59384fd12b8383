#include "control/apply/service_numbers.h"

#include <netinet/in.h>

#include <utility>

#include "control/compile/service.h"

namespace bpfnet::apply {
namespace {

std::string protocol_name(uint8_t proto) {
  switch (proto) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_SCTP:
      return "sctp";
    default:
      return std::to_string(proto);
  }
}

std::string serving_key(const model::EndpointSlice& slice, const model::SlicePort& port) {
  std::string key = slice.name.ns.str() + "/" + slice.service;
  if (!port.name.empty()) key += ":" + port.name;  // as the compiler names a service port
  return key + "/" + protocol_name(static_cast<uint8_t>(port.protocol));
}

}  // namespace

std::string service_key(const compile::FrontendAddress& address, const compile::Frontend& frontend) {
  return frontend.service + "/" + protocol_name(address.proto);
}

std::vector<std::string> ServiceNumbers::assign(const compile::ServiceImage& image,
                                                const std::set<compile::FrontendAddress>& addresses) {
  std::vector<std::string> added;
  for (const auto& address : addresses) {
    const auto wanted = image.frontends.find(address);
    if (wanted == image.frontends.end()) continue;
    auto [entry, is_new] = ids.try_emplace(service_key(address, wanted->second), next);
    if (!is_new) continue;
    ++next;
    added.push_back(entry->first);
  }
  return added;
}

std::vector<std::string> ServiceNumbers::assign(const compile::ServiceImage& image) {
  std::vector<std::string> changed;
  std::set<std::string> seen;
  for (const auto& [address, wanted] : image.frontends) {
    std::string key = service_key(address, wanted);
    const bool is_new = ids.try_emplace(key, next).second;
    if (is_new) ++next;
    if (is_new) changed.push_back(key);
    seen.insert(std::move(key));
  }
  if (ids.size() == seen.size()) return changed;
  std::erase_if(ids, [&](const auto& entry) {
    const bool gone = !seen.contains(entry.first);
    if (gone) changed.push_back(entry.first);
    return gone;
  });
  return changed;
}

std::set<std::string> ServingIndex::update(const model::ClusterState& state,
                                           const std::set<model::ObjectName>& slices) {
  std::set<std::string> touched;
  for (const model::ObjectName& name : slices) {
    if (auto before = keys_of_.extract(name)) {
      for (const std::string& key : before.mapped()) {
        slices_of_[key].erase(name);
        touched.insert(key);
      }
    }
    const auto slice = state.slices.find(name);
    if (slice == state.slices.end() || !compile::is_used(slice->second)) continue;
    for (const model::SlicePort& port : slice->second.ports) {
      const std::string key = serving_key(slice->second, port);
      keys_of_[name].insert(key);
      slices_of_[key].insert(name);
      touched.insert(key);
    }
  }
  for (const std::string& key : touched) collect(state, key);
  return touched;
}

std::set<std::string> ServingIndex::update(const model::ClusterState& state) {
  std::set<model::ObjectName> slices;
  for (const auto& [name, keys] : keys_of_) slices.insert(name);
  for (const auto& [name, slice] : state.slices) slices.insert(name);
  return update(state, slices);
}

void ServingIndex::collect(const model::ClusterState& state, const std::string& key) {
  const auto sources = slices_of_.find(key);
  if (sources == slices_of_.end() || sources->second.empty()) {
    if (sources != slices_of_.end()) slices_of_.erase(sources);
    backends_.erase(key);
    return;
  }
  std::set<compile::Backend> serving;
  for (const model::ObjectName& name : sources->second) {
    const model::EndpointSlice& slice = state.slices.at(name);
    for (const model::SlicePort& port : slice.ports) {
      if (serving_key(slice, port) != key) continue;
      for (const model::SliceEndpoint& endpoint : slice.endpoints)
        if (endpoint.serving) serving.insert({.ip = endpoint.ip, .port = port.port});
    }
  }
  backends_.insert_or_assign(key, std::move(serving));
}

}  // namespace bpfnet::apply
