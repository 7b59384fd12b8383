#include "control/apply/service_publisher.h"

#include <netinet/in.h>

#include <algorithm>

#include "maps/convert.h"

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

backend_slot make_slot(const compile::Backend& backend, uint32_t id, uint32_t generation) {
  backend_slot slot{};
  slot.addr = maps::to_abi(backend.ip);
  slot.port = htons(backend.port);
  slot.backend = id;
  slot.generation = generation;
  return slot;
}

compile::Backend backend_of(const backend_slot& slot) {
  return {.ip = maps::from_abi(slot.addr), .port = ntohs(slot.port)};
}

frontend_key make_key(const compile::FrontendAddress& address) {
  return maps::make_frontend_key(address.ip, address.port, address.proto, address.scope, address.net);
}

compile::FrontendAddress address_of(const frontend_key& key) {
  return {.ip = maps::from_abi(key.addr),
          .port = ntohs(key.port),
          .proto = key.proto,
          .scope = key.scope,
          .net = key.net};
}

}  // namespace

std::string service_key(const compile::FrontendAddress& address, const compile::Frontend& frontend) {
  return frontend.service + "/" + protocol_name(address.proto);
}

bool ServiceNumbers::assign(const compile::ServiceImage& image) {
  bool changed = false;
  std::set<std::string> seen;
  for (const auto& [address, wanted] : image.frontends) {
    std::string key = service_key(address, wanted);
    auto [entry, added] = ids.try_emplace(key, next);
    if (added) ++next;
    changed |= added;
    seen.insert(std::move(key));
  }
  if (ids.size() != seen.size()) {
    std::erase_if(ids, [&seen](const auto& entry) { return !seen.contains(entry.first); });
    changed = true;
  }
  return changed;
}

ServingBackends serving_backends(const model::ClusterState& state) {
  ServingBackends serving;
  for (const auto& [name, slice] : state.slices) {
    if (slice.service.empty()) continue;
    for (const model::SlicePort& port : slice.ports) {
      if (port.protocol != model::Protocol::kUdp) continue;
      auto& backends = serving[name.ns + "/" + slice.service + ":" + port.name + "/udp"];
      for (const model::SliceEndpoint& endpoint : slice.endpoints)
        if (endpoint.serving) backends.insert({.ip = endpoint.ip, .port = port.port});
    }
  }
  return serving;
}

ServicePublisher::ServicePublisher(MapWriter& maps, Options options)
    : maps_(maps), options_(options), slots_(maps.backend_slots->capacity()) {}

Status ServicePublisher::adopt() {
  std::vector<std::pair<frontend_key, frontend>> found;
  BPFNET_TRY(maps_.frontends->for_each(
      [&found](const frontend_key& key, const frontend& value) { found.emplace_back(key, value); }));
  for (const auto& [key, value] : found) BPFNET_TRY(adopt_frontend(key, value));
  for (const auto& [id, service] : services_) unsettled_.insert(id);
  if (!backend_ids_.empty()) next_backend_ = *backend_ids_.rbegin() + 1;
  return ok();
}

Status ServicePublisher::adopt_frontend(const frontend_key& key, const frontend& value) {
  ServiceRecord& service = services_[value.service];
  ++service.frontends;
  service.published_port |= (value.flags & FRONTEND_HOST_PORT) != 0;
  highest_service_ = std::max(highest_service_, value.service);
  Applied applied{.wanted = {}, .value = value};
  auto internal = adopt_run(service, value.first, value.count);
  if (!internal) return pass(internal);
  applied.internal = *internal;
  auto external = adopt_run(service, value.ext_first, value.ext_count);
  if (!external) return pass(external);
  applied.external = *external;
  applied_[address_of(key)] = std::move(applied);
  return ok();
}

/// A run that overlaps another or lies outside cannot be kept: nullptr, and a new one will replace it.
Result<ServicePublisher::Run*> ServicePublisher::adopt_run(ServiceRecord& service, uint32_t first,
                                                           uint32_t count) {
  if (count == 0) return nullptr;
  for (Run& run : service.runs) {
    if (run.first == first && run.slots.size() == count) {
      ++run.refs;
      return &run;
    }
  }
  if (!slots_.reserve(first, count)) return nullptr;
  Run run{.first = first, .refs = 1, .slots = {}};
  for (uint32_t i = 0; i < count; ++i) {
    auto slot = maps_.backend_slots->get(first + i);
    if (!slot) return pass(slot);
    run.slots.push_back(slot->value_or(backend_slot{}));
    const backend_slot& read = run.slots.back();
    backend_ids_.insert(read.backend);
    BackendRecord& record =
        service.backends.try_emplace(backend_of(read), BackendRecord{read.backend, read.generation, 0})
            .first->second;
    ++record.listed;
  }
  service.runs.push_back(std::move(run));
  return &service.runs.back();
}

void ServicePublisher::publish(const compile::ServiceImage& image, const ServiceNumbers& numbers,
                               const ServingBackends& serving, Clock::time_point now, Problems& problems) {
  // What goes first makes room for what comes.
  std::vector<compile::FrontendAddress> gone;
  for (const auto& [address, applied] : applied_)
    if (!image.frontends.contains(address)) gone.push_back(address);
  for (const compile::FrontendAddress& address : gone) {
    Status removed = remove_one(address, now);
    if (!removed) problems.push_back({"frontend " + address.ip.to_string(), removed.error().message});
  }
  for (const auto& [address, wanted] : image.frontends) {
    auto applied = applied_.find(address);
    if (applied != applied_.end() && applied->second.wanted == wanted) continue;
    auto id = numbers.ids.find(service_key(address, wanted));
    if (id == numbers.ids.end()) {
      problems.push_back({wanted.service, "no service id was assigned"});
      continue;
    }
    Status done = publish_one(address, wanted, id->second, now);
    if (!done) problems.push_back({wanted.service, done.error().message});
  }
  settle_backends(serving, problems);
}

Status ServicePublisher::publish_one(const compile::FrontendAddress& address, const compile::Frontend& wanted,
                                     uint32_t id, Clock::time_point now) {
  ServiceRecord& service = services_[id];
  service.key = service_key(address, wanted);
  service.published_port |= (wanted.flags & FRONTEND_HOST_PORT) != 0;
  unsettled_.insert(id);

  auto internal = obtain_run(service, wanted.internal);
  if (!internal) return pass(internal);
  auto external = obtain_run(service, wanted.external);
  if (!external) {
    drop_run(id, *internal, now, false);
    return pass(external);
  }
  Applied next{.wanted = wanted, .value = {}, .internal = *internal, .external = *external};
  next.value.first = *internal ? (*internal)->first : 0;
  next.value.count = static_cast<uint32_t>(wanted.internal.size());
  next.value.ext_first = *external ? (*external)->first : 0;
  next.value.ext_count = static_cast<uint32_t>(wanted.external.size());
  next.value.service = id;
  next.value.flags = wanted.flags;
  const uint64_t affinity_ns = uint64_t{wanted.affinity_seconds} * 1'000'000'000;
  next.value.affinity_ticks = static_cast<uint32_t>((affinity_ns + options_.tick_ns - 1) / options_.tick_ns);

  auto old = applied_.find(address);
  if (old == applied_.end() || !same_bytes(old->second.value, next.value)) {
    Status written = maps_.frontends->put(make_key(address), next.value);
    if (!written) {
      drop_run(id, *internal, now, false);
      drop_run(id, *external, now, false);
      return written;
    }
  }
  ++service.frontends;
  if (old != applied_.end()) {
    detach(old->second, now);
    old->second = std::move(next);
  } else {
    applied_.emplace(address, std::move(next));
  }
  return ok();
}

Status ServicePublisher::remove_one(const compile::FrontendAddress& address, Clock::time_point now) {
  BPFNET_TRY(maps_.frontends->erase(make_key(address)));
  auto applied = applied_.find(address);
  detach(applied->second, now);
  applied_.erase(applied);
  return ok();
}

/// Takes a frontend off its service and its runs, which the map no longer names.
void ServicePublisher::detach(Applied& applied, Clock::time_point now) {
  const uint32_t id = applied.value.service;
  --services_[id].frontends;
  unsettled_.insert(id);
  drop_run(id, applied.internal, now, true);
  drop_run(id, applied.external, now, true);
}

Result<ServicePublisher::Run*> ServicePublisher::obtain_run(ServiceRecord& service,
                                                            const std::vector<compile::Backend>& backends) {
  if (backends.empty()) return nullptr;
  std::vector<backend_slot> slots;
  slots.reserve(backends.size());
  for (const compile::Backend& backend : backends) {
    auto record = obtain_backend(service, backend);
    if (!record) return pass(record);
    slots.push_back(make_slot(backend, (*record)->id, (*record)->generation));
  }
  for (Run& run : service.runs) {
    if (!std::equal(run.slots.begin(), run.slots.end(), slots.begin(), slots.end(), same_bytes<backend_slot>))
      continue;
    ++run.refs;
    return &run;
  }
  const auto count = static_cast<uint32_t>(slots.size());
  auto first = slots_.take(count);
  if (!first)
    return fail_errno(E2BIG, "map {}: no run of {} slots is free ({} of {} used)",
                      maps_.backend_slots->name(), count, slots_.used(), slots_.capacity());
  for (uint32_t i = 0; i < count; ++i) {
    Status written = maps_.backend_slots->put(*first + i, slots[i]);
    if (!written) {
      slots_.release(*first, count);
      return pass(written);
    }
  }
  for (const compile::Backend& backend : backends) ++service.backends[backend].listed;
  service.runs.push_back({.first = *first, .refs = 1, .slots = std::move(slots)});
  return &service.runs.back();
}

/// The id's generation moves on before the id is used, so that no UDP flow of an earlier owner fits.
Result<ServicePublisher::BackendRecord*> ServicePublisher::obtain_backend(ServiceRecord& service,
                                                                          const compile::Backend& backend) {
  auto known = service.backends.find(backend);
  if (known != service.backends.end()) return &known->second;
  const uint32_t capacity = maps_.backend_states->capacity();
  if (backend_ids_.size() + 1 >= capacity)
    return fail_errno(E2BIG, "map {}: all {} backend ids are in use", maps_.backend_states->name(), capacity);
  // Round and round: an id rests as long as possible before it is given again.
  if (next_backend_ == 0 || next_backend_ >= capacity) next_backend_ = 1;
  while (backend_ids_.contains(next_backend_))
    next_backend_ = next_backend_ + 1 < capacity ? next_backend_ + 1 : 1;
  const uint32_t id = next_backend_;
  auto state = maps_.backend_states->get(id);
  if (!state) return pass(state);
  const backend_state next{.generation = state->value_or(backend_state{}).generation + 1};
  BPFNET_TRY(maps_.backend_states->put(id, next));
  backend_ids_.insert(id);
  ++next_backend_;
  return &service.backends.emplace(backend, BackendRecord{id, next.generation, 0}).first->second;
}

void ServicePublisher::drop_run(uint32_t service, Run* run, Clock::time_point now, bool was_visible) {
  if (!run || --run->refs > 0) return;
  ServiceRecord& owner = services_[service];
  for (const backend_slot& slot : run->slots) {
    auto record = owner.backends.find(backend_of(slot));
    if (record != owner.backends.end()) --record->second.listed;
  }
  const auto count = static_cast<uint32_t>(run->slots.size());
  if (was_visible) {
    retired_.push_back({.due = now + options_.grace, .first = run->first, .count = count});
  } else {
    slots_.release(run->first, count);
  }
  owner.runs.remove_if([run](const Run& r) { return &r == run; });
}

/// Decides about backends that stand in no run: UDP flows leave those that serve no more, as soon as there
/// is somewhere to go (S45-S47). TCP flows do not look at the generation (S33).
void ServicePublisher::settle_backends(const ServingBackends& serving, Problems& problems) {
  std::set<uint32_t> still;
  for (const uint32_t id : unsettled_) {
    auto found = services_.find(id);
    if (found == services_.end()) continue;
    ServiceRecord& service = found->second;
    auto serving_here = serving.find(service.key);
    const bool any_serving = (serving_here != serving.end() && !serving_here->second.empty()) ||
                             std::any_of(service.backends.begin(), service.backends.end(),
                                         [](const auto& entry) { return entry.second.listed > 0; });
    for (auto entry = service.backends.begin(); entry != service.backends.end();) {
      const BackendRecord& record = entry->second;
      const bool serves = serving_here != serving.end() && serving_here->second.contains(entry->first);
      const bool deleted = service.frontends == 0;
      if (record.listed > 0 || (!deleted && (serves || !any_serving))) {
        if (record.listed == 0) still.insert(id);
        ++entry;
        continue;
      }
      // A published port has no service to come back to: its flows end with it (C21).
      if (!deleted || service.published_port) {
        Status raised = raise_generation(record);
        if (!raised) {
          problems.push_back({service.key, raised.error().message});
          still.insert(id);
          ++entry;
          continue;
        }
      }
      backend_ids_.erase(record.id);
      entry = service.backends.erase(entry);
    }
    if (service.frontends == 0 && service.backends.empty()) services_.erase(found);
  }
  unsettled_ = std::move(still);
}

Status ServicePublisher::raise_generation(const BackendRecord& record) {
  return maps_.backend_states->put(record.id, backend_state{.generation = record.generation + 1});
}

bool ServicePublisher::reclaim(Clock::time_point now) {
  bool freed = false;
  while (!retired_.empty() && retired_.front().due <= now) {
    slots_.release(retired_.front().first, retired_.front().count);
    retired_.pop_front();
    freed = true;
  }
  return freed;
}

std::optional<Clock::time_point> ServicePublisher::deadline() const {
  if (retired_.empty()) return std::nullopt;
  return retired_.front().due;
}

}  // namespace bpfnet::apply
