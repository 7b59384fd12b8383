#include "control/apply/publisher.h"

#include <algorithm>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

/// Puts what differs, then erases what is not wanted.
template <typename Key, typename Value>
void replace(Mirror<Key, Value>& mirror, const Records<Key, Value>& wanted, Problems& problems) {
  const std::string& map = mirror.table().name();
  for (const auto& [key, value] : wanted) {
    auto written = mirror.put(key, value);
    if (!written) problems.push_back({map, written.error().message});
  }
  std::vector<Key> gone;
  for (const auto& [key, value] : mirror.held())
    if (!wanted.contains(key)) gone.push_back(key);
  for (const Key& key : gone) {
    auto erased = mirror.erase(key);
    if (!erased) problems.push_back({map, erased.error().message});
  }
}

}  // namespace

Publisher::Publisher(MapWriter maps, const ServicePublisher::Options& options)
    : maps_(std::move(maps)),
      grace_(options.grace),
      clock_(options.clock),
      services_(maps_, options),
      sets_(*maps_.policies),
      endpoints_(*maps_.endpoints, sets_),
      interfaces_(*maps_.interfaces),
      nodes_(*maps_.nodes),
      addresses_(*maps_.addresses, *maps_.cidrs) {}

Status Publisher::adopt() {
  BPFNET_TRY(services_.adopt());
  BPFNET_TRY(sets_.adopt());
  BPFNET_TRY(endpoints_.adopt());
  BPFNET_TRY(interfaces_.load());
  BPFNET_TRY(nodes_.load());
  has_served_ = !interfaces_.held().empty();
  return addresses_.adopt();
}

std::set<uint32_t> Publisher::write_sets(const Wanted& wanted, bool new_ones, Problems& problems) {
  const auto& sets = wanted.policy.sets;
  std::map<uint32_t, std::set<uint32_t>> todo;
  if (wanted.changes) {
    todo = wanted.changes->sets;
    for (const auto& [id, why] : refusals_) todo[id].clear();
  } else {
    wanted_sets_.clear();
    for (const auto& [id, set] : sets) todo[id];
  }
  std::set<uint32_t> refused;
  std::erase_if(refusals_, [&](const auto& entry) { return !sets.contains(entry.first); });
  for (const auto& [id, identities] : todo) {
    const auto set = sets.find(id);
    if (set == sets.end()) {
      wanted_sets_.erase(id);
      continue;
    }
    wanted_sets_.insert(id);
    const bool grows = sets_.holds(id);
    Status written = grows || new_ones
                         ? sets_.write(id, set->second, grows ? identities : std::set<uint32_t>{})
                         : fail(
                               "map cidrs has no room for prefixes that policies name; raise "
                               "--max-cidrs");
    if (written) {
      refusals_.erase(id);
      continue;
    }
    refusals_[id] = written.error().message;
    if (!grows) continue;  // endpoints stay where they are, and say so
    refused.merge(sets_.unknown(id, set->second));
    problems.push_back(
        {fmt::format("policy set {}", id),
         fmt::format("{}; pods that came since are not known to it", written.error().message)});
  }
  return refused;
}

bool Publisher::reclaim_sets(Clock::time_point now) {
  return sets_.reclaim({.wanted = wanted_sets_,
                        .records = endpoints_.sets_in_use(),
                        .has_address = [this](uint32_t identity) { return addresses_.has(identity); }},
                       now, grace_);
}

Problems Publisher::publish(const Wanted& wanted, Clock::time_point now) {
  Problems problems;
  // A pod's record is closed before its device is known, and opens last.
  endpoints_.close_new(wanted.endpoints, problems);
  for (const auto& [ifindex, record] : wanted.interfaces) {
    auto written = interfaces_.put(ifindex, record);
    if (!written) problems.push_back({fmt::format("interface {}", ifindex), written.error().message});
  }
  // A node is known before addresses and prefixes name it, and until none does.
  for (const auto& [index, record] : wanted.nodes) {
    auto written = nodes_.put(index, record);
    if (!written) problems.push_back({fmt::format("node {}", index), written.error().message});
  }
  // Sets know new identities before any address has them, and are changed only by those that none has.
  const AddressMaps::Change change = addresses_.plan(wanted.policy, wanted.changes);
  const std::set<uint32_t> refused = write_sets(wanted, change.cidrs_fit, problems);
  const bool changes_verdicts = change.node_left || !change.left.empty() || !change.joined.empty();
  if (changes_verdicts && endpoints_.restricts(wanted.policy)) endpoints_.unsettle(problems);
  endpoints_.move_to_sets(wanted.endpoints, wanted.policy, change.left, problems);
  endpoints_.free_gone(wanted.endpoints, problems);
  addresses_.apply(change, wanted.policy, refused, problems);
  endpoints_.move_identities(wanted.policy, refused, problems);
  // Services before pods open, so that a pod's first packet finds them.
  Problems of_services;
  services_.publish(wanted.services, now, of_services);
  std::set<uint32_t> touched = change.left;
  touched.insert(change.joined.begin(), change.joined.end());
  endpoints_.settle(
      wanted.endpoints, wanted.policy,
      {.refused = refused, .touched = touched, .refusals = refusals_, .node_left = change.node_left},
      problems);

  Records<uint32_t, interface> interfaces;
  for (const auto& [ifindex, record] : wanted.interfaces) interfaces[ifindex] = record;
  replace(interfaces_, interfaces, problems);
  Records<uint32_t, node> nodes;
  for (const auto& [index, record] : wanted.nodes) nodes[index] = record;
  replace(nodes_, nodes, problems);
  reclaim_sets(clock_());
  other_problems_ = std::move(problems);
  of_services.insert(of_services.end(), other_problems_.begin(), other_problems_.end());
  return of_services;
}

Problems Publisher::publish(const ServiceUpdate& services, Clock::time_point now) {
  Problems problems;
  services_.publish(services, now, problems);
  problems.insert(problems.end(), other_problems_.begin(), other_problems_.end());
  return problems;
}

uint64_t Publisher::resync(const Wanted& wanted, Clock::time_point now, Problems& problems) {
  // What is due anyway is not drift.
  problems = publish(wanted, now);
  const uint64_t before = writes() - endpoints_.mark_writes();
  services_.repair(problems);
  const auto reload = [&problems](const char* what, Status read) {
    if (!read) problems.push_back({what, read.error().message});
    return read.has_value();
  };
  const bool known = reload("policies", sets_.reload()) && reload("endpoints", endpoints_.adopt()) &&
                     reload("interfaces", interfaces_.load()) && reload("nodes", nodes_.load()) &&
                     reload("addresses", addresses_.adopt());
  if (known) {
    Problems again = publish(wanted, now);
    problems.insert(problems.end(), again.begin(), again.end());
  }
  return writes() - endpoints_.mark_writes() - before;
}

bool Publisher::reclaim(Clock::time_point now) {
  const bool runs = services_.reclaim(now);
  const bool sets = reclaim_sets(now);
  return runs || sets;
}

std::optional<Clock::time_point> Publisher::deadline() const {
  const auto runs = services_.deadline();
  const auto sets = sets_.deadline();
  if (!runs) return sets;
  if (!sets) return runs;
  return std::min(*runs, *sets);
}

Status Publisher::verify_endpoint(uint16_t index, uint32_t ifindex, const std::vector<Address>& ips,
                                  uint16_t net) const {
  auto record = maps_.endpoints->get(index);
  if (!record) return pass(record);
  if (!*record || (*record)->state != ENDPOINT_OPEN || (*record)->ifindex != ifindex)
    return fail("map endpoints: record {} does not show an open endpoint at interface {}", index, ifindex);
  auto device = maps_.interfaces->get(ifindex);
  if (!device) return pass(device);
  if (!*device || (*device)->kind != INTERFACE_POD || (*device)->endpoint != index)
    return fail("map interfaces: interface {} does not lead to endpoint {}", ifindex, index);
  for (const Address& ip : ips) {
    auto info = maps_.addresses->get(maps::make_address_key(ip, net));
    if (!info) return pass(info);
    if (!*info || (*info)->endpoint != index)
      return fail("map addresses: {} does not lead to endpoint {}", ip.to_string(), index);
  }
  return ok();
}

Status Publisher::verify_frontends(const std::vector<compile::FrontendAddress>& frontends) const {
  for (const compile::FrontendAddress& wanted : frontends) {
    const bool block = wanted.port_bits < 16;
    auto found = block
                     ? maps_.frontend_ranges->get(maps::make_frontend_range_key(
                           wanted.ip, wanted.port, wanted.port_bits, wanted.proto, wanted.scope, wanted.net))
                     : maps_.frontends->get(maps::make_frontend_key(wanted.ip, wanted.port, wanted.proto,
                                                                    wanted.scope, wanted.net));
    if (!found) return pass(found);
    if (!*found)
      return fail("map {}: {} port {} is missing", block ? "frontend_ranges" : "frontends",
                  wanted.ip.to_string(), wanted.port);
  }
  return ok();
}

Publisher::HighestIds Publisher::highest_ids() const {
  HighestIds ids{.service = services_.highest_service()};
  ids.identity = addresses_.highest_identity();
  sets_.highest(ids.set, ids.identity, ids.rule);
  return ids;
}

std::vector<Publisher::MapCounts> Publisher::counts() const {
  std::vector<MapCounts> all;
  const auto add = [&all](const auto& table) { all.push_back({table->name(), table->counts()}); };
  add(maps_.frontends);
  add(maps_.frontend_ranges);
  add(maps_.source_ranges);
  add(maps_.affinities);
  add(maps_.backend_slots);
  add(maps_.backend_states);
  add(maps_.endpoints);
  add(maps_.interfaces);
  add(maps_.addresses);
  add(maps_.cidrs);
  add(maps_.nodes);
  add(maps_.policies);
  return all;
}

uint64_t Publisher::writes() const {
  uint64_t sum = 0;
  for (const MapCounts& map : counts()) sum += map.counts.puts + map.counts.erases;
  return sum;
}

}  // namespace bpfnet::apply
