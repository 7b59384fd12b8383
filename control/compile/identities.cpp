#include "control/compile/identities.h"

#include <fmt/format.h>

#include "control/compile/numbers.h"
#include "control/compile/policy_text.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {

bool PrefixSet::insert(const Cidr& cidr) {
  if (++prefixes_[cidr] > 1) return false;
  ++lengths_[cidr.family() == Family::kIpv4 ? 0 : 1][cidr.length()];
  return true;
}

bool PrefixSet::erase(const Cidr& cidr) {
  const auto known = prefixes_.find(cidr);
  if (known == prefixes_.end() || --known->second > 0) return false;
  prefixes_.erase(known);
  auto& lengths = lengths_[cidr.family() == Family::kIpv4 ? 0 : 1];
  if (const auto length = lengths.find(cidr.length()); --length->second == 0) lengths.erase(length);
  return true;
}

std::optional<Cidr> PrefixSet::longest(const Address& address, int at_most) const {
  for (const auto& [length, count] : lengths_[address.is_ipv4() ? 0 : 1]) {
    if (length > at_most) continue;
    if (const Cidr candidate(address, length); prefixes_.contains(candidate)) return candidate;
  }
  return std::nullopt;
}

IdentityTable::IdentityTable() {
  for (const auto& [kind, id] : {std::pair{IdentityKind::kHost, IDENTITY_HOST},
                                 std::pair{IdentityKind::kRemoteNode, IDENTITY_REMOTE_NODE},
                                 std::pair{IdentityKind::kAddress, IDENTITY_WORLD}}) {
    Identity reserved;
    reserved.kind = kind;
    reserved.id = id;
    const std::string text = text_of(reserved, "");
    known_[text] = id;
    texts_[id] = text;
    entries_[id] = {.place = identities_.size(), .users = 1};
    identities_.push_back(reserved);
  }
}

uint32_t IdentityTable::acquire(Identity identity, const std::string& text, PolicyNumbers& numbers) {
  const auto [known, is_new] = known_.try_emplace(text, 0);
  if (is_new) {
    known->second = number_of(numbers.identities, numbers.next_identity, IDENTITY_FIRST, text);
    identity.id = known->second;
    texts_[identity.id] = text;
    born_.insert(identity.id);
    entries_[identity.id] = {.place = identities_.size(), .users = 0};
    identities_.push_back(std::move(identity));
  }
  ++entries_.at(known->second).users;
  return known->second;
}

void IdentityTable::release(uint32_t id) {
  if (--entries_.at(id).users == 0) unused_.insert(id);
}

IdentityTable::Turnover IdentityTable::settle() {
  Turnover turnover;
  for (const uint32_t id : unused_) {
    const auto entry = entries_.find(id);
    if (entry == entries_.end() || entry->second.users > 0) continue;
    const size_t place = entry->second.place;
    if (place + 1 != identities_.size()) {
      identities_[place] = std::move(identities_.back());
      entries_.at(identities_[place].id).place = place;
    }
    identities_.pop_back();
    const auto text = texts_.find(id);
    known_.erase(text->second);
    texts_.erase(text);
    entries_.erase(entry);
    if (born_.erase(id) == 0) turnover.dead.push_back(id);
  }
  unused_.clear();
  for (const uint32_t id : born_) turnover.born.push_back(identities_[entries_.at(id).place]);
  born_.clear();
  return turnover;
}

std::string text_of(const Identity& identity, const std::string& ns_labels) {
  std::string text;
  switch (identity.kind) {
    case IdentityKind::kPod:
      text = fmt::format("pod {} {{{}}} ns{{{}}}", escape(identity.ns), to_text(*identity.labels), ns_labels);
      break;
    case IdentityKind::kUnknownPod:
      text = fmt::format("pod {} (labels not known yet) ns{{{}}}", escape(identity.ns), ns_labels);
      break;
    case IdentityKind::kContainer:
      text = "container";
      break;
    case IdentityKind::kHost:
      text = "host";
      break;
    case IdentityKind::kRemoteNode:
      text = "remote-node";
      break;
    case IdentityKind::kAddress:
      text = identity.cidr ? fmt::format("cidr {}", identity.cidr->to_string()) : "world";
      break;
  }
  if (!identity.ports.empty()) {
    text += " ports{";
    for (const NamedPort& port : identity.ports)
      text += fmt::format("{}{}/{}={}", &port == &identity.ports.front() ? "" : ",", escape(port.name),
                          model::to_string(port.protocol), port.port);
    text += "}";
  }
  for (const std::string& selector : identity.nodes) text += fmt::format(" of nodes{{{}}}", selector);
  if (identity.cidr && identity.kind != IdentityKind::kAddress) text += " in " + identity.cidr->to_string();
  return text;
}

}  // namespace bpfnet::compile
