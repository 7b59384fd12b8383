#pragma once

#include <cstdlib>
#include <string_view>

#include "control/sources/catalog.h"
#include "control/sources/decode.h"
#include "control/sources/document.h"

namespace bpfnet::sources {

/// Aborts unless `holds`, in every build: the fuzzer must see it.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// What must hold for every text. Used by the fuzz target and by the replay of its corpus.
inline void check_manifest(std::string_view text) {
  size_t covered = 0;
  for (const Chunk& chunk : split_documents(text)) covered += chunk.text.size();
  require(covered == text.size());

  for (const Format format : {Format::kYaml, Format::kJson}) {
    Catalog catalog;
    DecodedText decoded = decode(text, format);
    require(decoded.complete || !decoded.problems.empty());
    for (const Problem& problem : decoded.problems) require(!problem.to_string().empty());
    std::vector<Candidate*> candidates;
    for (Decoded& object : decoded.objects) {
      require(!object.name.name.empty());
      // Nothing is refused without a word, and no refused policy goes without a stand-in.
      require(object.object.has_value() || !object.problems.empty());
      require(object.object.has_value() || object.kind != Kind::kNetworkPolicy ||
              object.fallback.has_value());
      if (object.object) require(static_cast<Kind>(object.object->index()) == object.kind);
      for (const Problem& problem : object.problems) require(!problem.to_string().empty());
      candidates.push_back(catalog.add("f", 1, std::move(object)));
    }
    catalog.settle();
    const model::ClusterState& state = catalog.state();
    // A rule of a cluster policy that says about whom it is has something to say of them.
    for (const auto& [name, policy] : state.cluster_policies)
      for (const auto* rules : {&policy.ingress, &policy.egress})
        for (const auto& rule : *rules) require(rule.fails_closed || !rule.traffic.peers.empty());
    for (const auto& [name, policy] : state.policies) require(state.namespaces.contains(name.ns));
    for (const auto& [name, service] : state.services) {
      for (const auto& [other_name, other] : state.services) {
        if (name == other_name) break;
        for (const Address& ip : service.cluster_ips) {
          for (const Address& taken : other.cluster_ips) require(ip != taken);
        }
      }
    }
    for (Candidate* candidate : candidates) catalog.remove(candidate);
    catalog.settle();
    require(state.namespaces.empty() && state.nodes.empty() && state.pods.empty() && state.services.empty() &&
            state.slices.empty() && state.policies.empty() && state.service_cidrs.empty() &&
            state.cluster_policies.empty());
  }
}

}  // namespace bpfnet::sources
