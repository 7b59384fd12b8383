#include "control/apply/service_publisher.h"

#include <netinet/in.h>

#include <algorithm>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

/// Frontends that are prepared before the first of them is written: what a first fill keeps in memory.
constexpr size_t kQueued = 4096;

bool is_range(const compile::FrontendAddress& address) {
  return address.port_bits < 16;
}

frontend_key exact_key(const compile::FrontendAddress& address) {
  return maps::make_frontend_key(address.ip, address.port, address.proto, address.scope, address.net);
}

frontend_range_key range_key(const compile::FrontendAddress& address) {
  return maps::make_frontend_range_key(address.ip, address.port, address.port_bits, address.proto,
                                       address.scope, address.net);
}

compile::FrontendAddress address_of(const frontend_key& key) {
  return {.ip = maps::from_abi(key.addr),
          .port = ntohs(key.port),
          .proto = key.proto,
          .scope = key.scope,
          .net = key.net};
}

compile::FrontendAddress address_of(const frontend_range_key& key) {
  return {.ip = maps::from_abi(key.addr),
          .port = ntohs(key.port),
          .proto = key.proto,
          .scope = key.scope,
          .net = key.net,
          .port_bits = static_cast<uint8_t>(key.prefixlen - FRONTEND_RANGE_BITS)};
}

}  // namespace

ServicePublisher::ServicePublisher(MapWriter& maps, Options options)
    : maps_(maps),
      options_(std::move(options)),
      runs_(*maps.backend_slots, *maps.backend_states),
      sources_(*maps.source_ranges) {}

Status ServicePublisher::adopt() {
  BPFNET_TRY(runs_.adopt());
  BPFNET_TRY(sources_.adopt());
  BPFNET_TRY(maps_.frontends->for_each(
      [this](const frontend_key& key, const frontend& value) { adopt_frontend(address_of(key), value); }));
  BPFNET_TRY(maps_.frontend_ranges->for_each([this](const frontend_range_key& key, const frontend& value) {
    adopt_frontend(address_of(key), value);
  }));
  BPFNET_TRY(maps_.flows->for_each([this](const flow_key&, const flow& flow) { adopt_flow(flow); }));
  runs_.adopted();
  sources_.retire_unused(Clock::time_point{});
  return maps_.affinities->for_each([this](const affinity_key& key, const affinity&) {
    const auto service = services_.find(key.service);
    if (service == services_.end() || service->second.affine == 0)
      affinity_lost_[key.service] = Clock::time_point{};
  });
}

void ServicePublisher::adopt_frontend(const compile::FrontendAddress& address, const frontend& value) {
  ServiceRecord& service = services_[value.service];
  ++service.frontends;
  if (value.flags & FRONTEND_AFFINITY) ++service.affine;
  service.published_port |= (value.flags & FRONTEND_HOST_PORT) != 0;
  highest_service_ = std::max(highest_service_, value.service);
  sources_.adopt_use(value.source_set);
  applied_[address] = {.value = value,
                       .internal = runs_.adopt_run(service.backends, value.first, value.count),
                       .external = runs_.adopt_run(service.backends, value.ext_first, value.ext_count)};
}

void ServicePublisher::adopt_flow(const flow& flow) {
  if ((flow.flags & (FLOW_SERVICE | FLOW_IS_REPLY)) != FLOW_SERVICE) return;
  const auto service = services_.find(flow.service);
  if (service == services_.end()) return;  // deleted: left alone
  runs_.adopt_backend(service->second.backends,
                      {.ip = maps::from_abi(flow.peer.saddr), .port = ntohs(flow.peer.sport)}, flow.backend,
                      flow.backend_generation);
}

/// What goes stands before what comes, for which it makes room.
std::vector<compile::FrontendAddress> ServicePublisher::to_do(const ServiceUpdate& update) const {
  std::set<compile::FrontendAddress> some;
  if (update.frontends) some = *update.frontends;
  if (update.retry)
    for (const auto& [address, refusal] : refused_) some.insert(address);
  std::vector<compile::FrontendAddress> gone;
  std::vector<compile::FrontendAddress> wanted;
  const auto add = [&](const compile::FrontendAddress& address) {
    (update.image.frontends.contains(address) ? wanted : gone).push_back(address);
  };
  if (update.frontends) {
    for (const auto& address : some) add(address);
  } else {
    for (const auto& [address, applied] : applied_)
      if (!update.image.frontends.contains(address)) gone.push_back(address);
    for (const auto& address : some)
      if (!update.image.frontends.contains(address) && !applied_.contains(address)) gone.push_back(address);
    for (const auto& [address, frontend] : update.image.frontends) wanted.push_back(address);
  }
  gone.insert(gone.end(), wanted.begin(), wanted.end());
  return gone;
}

void ServicePublisher::publish(const ServiceUpdate& update, Clock::time_point now, Problems& problems) {
  Queue queue;
  for (const compile::FrontendAddress& address : to_do(update)) {
    const auto wanted = update.image.frontends.find(address);
    if (wanted == update.image.frontends.end()) {
      remove(address);
      continue;
    }
    const auto id = update.numbers.ids.find(service_key(address, wanted->second));
    if (id == update.numbers.ids.end()) {
      refuse(address, 0, {wanted->second.service, "no service id was assigned"});
      continue;
    }
    prepare(address, wanted->second, id->second, now, queue);
    if (queue.size() >= kQueued) commit(queue, now);
  }
  commit(queue, now);
  settle(update);
  Status flushed = runs_.flush();
  if (!flushed) problems.push_back({"services", flushed.error().message});
  for (const auto& [address, refusal] : refused_) problems.push_back(refusal.problem);
}

void ServicePublisher::prepare(const compile::FrontendAddress& address, const compile::Frontend& wanted,
                               uint32_t id, Clock::time_point now, Queue& queue) {
  ServiceRecord& service = services_[id];
  if (service.key.empty()) service.key = service_key(address, wanted);
  service.published_port |= (wanted.flags & FRONTEND_HOST_PORT) != 0;
  touched_.insert(id);
  Prepared prepared{.address = address, .wanted = &wanted, .next = {}, .flaw = {}};
  frontend& value = prepared.next.value;
  value.service = id;

  auto internal = runs_.obtain(service.backends, wanted.internal);
  if (!internal) return undo(prepared, internal.error().message, now);
  prepared.next.internal = *internal;
  auto external = runs_.obtain(service.backends, wanted.external);
  if (!external) return undo(prepared, external.error().message, now);
  prepared.next.external = *external;
  if (!wanted.source_ranges.empty()) {
    auto set = sources_.obtain(wanted.source_ranges);
    // It fails closed: rather nobody than those whom the ranges leave out.
    value.source_set = set ? *set : SourceSets::kNobody;
    if (!set) prepared.flaw = set.error().message + "; the address is closed to every source until it fits";
  }

  value.first = *internal ? (*internal)->first : 0;
  value.count = *internal ? (*internal)->count() : 0;
  value.ext_first = *external ? (*external)->first : 0;
  value.ext_count = *external ? (*external)->count() : 0;
  value.flags = wanted.flags;
  value.range_first = wanted.range_first;
  const uint64_t affinity_ns = uint64_t{wanted.affinity_seconds} * 1'000'000'000;
  value.affinity_ticks = static_cast<uint32_t>((affinity_ns + options_.tick_ns - 1) / options_.tick_ns);
  if (!is_range(address)) {
    const frontend_key key = exact_key(address);
    value.seal = frontend_seal(&key, &value);
  }
  const auto old = applied_.find(address);
  prepared.differs = old == applied_.end() || !same_bytes(old->second.value, value);
  queue.push_back(std::move(prepared));
}

void ServicePublisher::commit(Queue& queue, Clock::time_point now) {
  if (queue.empty()) return;
  Status flushed = runs_.flush();
  if (!flushed) {
    for (Prepared& prepared : queue) undo(prepared, flushed.error().message, now);
    queue.clear();
    return;
  }
  // A service that has affinity again begins without the records of its former time.
  std::set<uint32_t> stale;
  for (const Prepared& prepared : queue)
    if ((prepared.next.value.flags & FRONTEND_AFFINITY) &&
        affinity_lost_.contains(prepared.next.value.service))
      stale.insert(prepared.next.value.service);
  erase_affinities(stale);

  put_exact(queue, now);
  for (Prepared& prepared : queue) {
    if (!prepared.wanted) continue;  // undone
    if (is_range(prepared.address) && prepared.differs) {
      Status written = maps_.frontend_ranges->put(range_key(prepared.address), prepared.next.value);
      if (!written) {
        undo(prepared, written.error().message, now);
        continue;
      }
    }
    install(prepared);
  }
  queue.clear();
}

/// Writes the exact frontends of the queue in one batch, and goes on behind each that is refused.
void ServicePublisher::put_exact(Queue& queue, Clock::time_point now) {
  std::vector<Prepared*> entries;
  std::vector<frontend_key> keys;
  std::vector<frontend> values;
  for (Prepared& prepared : queue) {
    if (is_range(prepared.address) || !prepared.differs) continue;
    entries.push_back(&prepared);
    keys.push_back(exact_key(prepared.address));
    values.push_back(prepared.next.value);
  }
  for (size_t at = 0; at < keys.size();) {
    size_t done = 0;
    Status written =
        maps_.frontends->put_batch(std::span(keys).subspan(at), std::span(values).subspan(at), done);
    at += done;
    if (written || at >= keys.size()) continue;
    undo(*entries[at], written.error().message, now);
    ++at;
  }
}

void ServicePublisher::install(Prepared& prepared) {
  accept(prepared.address);
  if (!prepared.flaw.empty())
    refuse(prepared.address, prepared.next.value.service, {prepared.wanted->service, prepared.flaw});
  ServiceRecord& service = services_[prepared.next.value.service];
  ++service.frontends;
  if (prepared.next.value.flags & FRONTEND_AFFINITY) ++service.affine;
  auto [applied, is_new] = applied_.try_emplace(prepared.address);
  if (!is_new) detach(applied->second);
  applied->second = prepared.next;
}

/// The frontend keeps the value it has; what was prepared for it was never named.
void ServicePublisher::undo(Prepared& prepared, const std::string& message, Clock::time_point now) {
  const uint32_t id = prepared.next.value.service;
  BackendRuns::Owner& owner = services_[id].backends;
  runs_.release(owner, prepared.next.internal, std::nullopt);
  runs_.release(owner, prepared.next.external, std::nullopt);
  sources_.release(prepared.next.value.source_set, now);
  refuse(prepared.address, id, {prepared.wanted->service, message});
  prepared.wanted = nullptr;
}

void ServicePublisher::refuse(const compile::FrontendAddress& address, uint32_t service, Problem problem) {
  accept(address);
  if (service != 0) ++services_[service].refused;
  refused_[address] = {service, std::move(problem)};
}

void ServicePublisher::accept(const compile::FrontendAddress& address) {
  const auto refusal = refused_.find(address);
  if (refusal == refused_.end()) return;
  if (const auto service = services_.find(refusal->second.service); service != services_.end()) {
    --service->second.refused;
    touched_.insert(service->first);
  }
  refused_.erase(refusal);
}

void ServicePublisher::remove(const compile::FrontendAddress& address) {
  const auto applied = applied_.find(address);
  if (applied != applied_.end()) {
    Status erased = is_range(address) ? maps_.frontend_ranges->erase(range_key(address))
                                      : maps_.frontends->erase(exact_key(address));
    if (!erased)
      return refuse(address, applied->second.value.service,
                    {"frontend " + address.ip.to_string(), erased.error().message});
    detach(applied->second);
    applied_.erase(applied);
  }
  accept(address);
}

/// Takes a frontend off its service, its runs and its set, which the map no longer names.
void ServicePublisher::detach(Applied& applied) {
  const Clock::time_point due = options_.clock() + options_.grace;
  const uint32_t id = applied.value.service;
  ServiceRecord& service = services_[id];
  --service.frontends;
  // Programs that read the old frontend may still write a record.
  if ((applied.value.flags & FRONTEND_AFFINITY) && --service.affine == 0) affinity_lost_[id] = due;
  touched_.insert(id);
  runs_.release(service.backends, applied.internal, due);
  runs_.release(service.backends, applied.external, due);
  sources_.release(applied.value.source_set, due);
}

/// Backends in no run: kept while they serve (S46) or while their service has no other (S47), else their
/// flows are moved on.
void ServicePublisher::settle(const ServiceUpdate& update) {
  if (update.serving_keys) {
    for (const std::string& key : *update.serving_keys)
      if (const auto id = update.numbers.ids.find(key); id != update.numbers.ids.end())
        touched_.insert(id->second);
  } else {
    for (const auto& [id, service] : services_) touched_.insert(id);
  }
  for (const uint32_t id : touched_) {
    const auto service = services_.find(id);
    if (service == services_.end() || settle_service(service->second, update.serving)) continue;
    if (!service->second.key.empty()) forgotten_.push_back(service->second.key);
    services_.erase(service);
  }
  touched_.clear();
}

bool ServicePublisher::settle_service(ServiceRecord& service, const ServingBackends& serving) {
  BackendRuns::Owner& owner = service.backends;
  const auto serving_here = serving.find(service.key);
  const bool deleted = service.frontends == 0 && service.refused == 0;
  // Each family by itself: flows of one cannot move to a backend of the other.
  std::set<Family> any_serving;
  if (serving_here != serving.end())
    for (const auto& backend : serving_here->second) any_serving.insert(backend.ip.family());
  for (const auto& known : owner.backends)
    if (runs_.listed(known.id)) any_serving.insert(known.backend.ip.family());
  std::vector<uint32_t> ended;
  for (const auto& [backend, id] : owner.backends) {
    const bool serves = serving_here != serving.end() && serving_here->second.contains(backend);
    if (runs_.listed(id) || (!deleted && (serves || !any_serving.contains(backend.ip.family())))) continue;
    // A published port has no service to come back to: its flows end with it (C21).
    if (!deleted || service.published_port) runs_.raise(id);
    ended.push_back(id);
  }
  for (const uint32_t id : ended) runs_.forget(owner, id);
  return !deleted || !owner.backends.empty();
}

void ServicePublisher::erase_affinities(const std::set<uint32_t>& services) {
  if (services.empty()) return;
  std::vector<affinity_key> keys;
  Status read = maps_.affinities->for_each([&](const affinity_key& key, const affinity&) {
    if (services.contains(key.service)) keys.push_back(key);
  });
  if (!read) return;  // they stay in affinity_lost_
  bool all = true;
  for (const affinity_key& key : keys) all &= maps_.affinities->erase(key).has_value();
  if (all)
    for (const uint32_t id : services) affinity_lost_.erase(id);
}

bool ServicePublisher::reclaim(Clock::time_point now) {
  std::set<uint32_t> due;
  for (auto& [id, when] : affinity_lost_) {
    if (when > now) continue;
    due.insert(id);
    when = now + std::chrono::seconds(1);  // should the kernel refuse
  }
  erase_affinities(due);
  const bool runs = runs_.reclaim(now);
  const bool sources = sources_.reclaim(now);
  return runs || sources;
}

std::optional<Clock::time_point> ServicePublisher::deadline() const {
  std::optional<Clock::time_point> first = runs_.deadline();
  const auto consider = [&first](const std::optional<Clock::time_point>& when) {
    if (when && (!first || *when < *first)) first = when;
  };
  consider(sources_.deadline());
  for (const auto& [id, when] : affinity_lost_) consider(when);
  return first;
}

size_t ServicePublisher::repair(Problems& problems) {
  Records<frontend_key, frontend> exact;
  Records<frontend_range_key, frontend> ranges;
  for (const auto& [address, applied] : applied_) {
    if (is_range(address)) {
      ranges[range_key(address)] = applied.value;
    } else {
      exact[exact_key(address)] = applied.value;
    }
  }
  Records<frontend_key, frontend> exact_held;
  Records<frontend_range_key, frontend> ranges_held;
  // What frontends name is put right before them.
  size_t repaired = sources_.repair(problems);
  repaired += runs_.repair(
      [this](const auto& visit) {
        for (const auto& [id, service] : services_) visit(service.backends);
      },
      problems);
  Status read = maps_.frontends->for_each(
      [&](const frontend_key& key, const frontend& value) { exact_held[key] = value; });
  if (read)
    read = maps_.frontend_ranges->for_each(
        [&](const frontend_range_key& key, const frontend& value) { ranges_held[key] = value; });
  if (!read) {
    problems.push_back({"frontends", read.error().message});
    return repaired;
  }
  repaired += repair_table(*maps_.frontends, exact, exact_held, problems);
  return repaired + repair_table(*maps_.frontend_ranges, ranges, ranges_held, problems);
}

}  // namespace bpfnet::apply
