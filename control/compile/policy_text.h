#pragma once

#include <string>
#include <string_view>

#include "control/model/objects.h"

namespace bpfnet::compile {

enum class Direction { kIngress, kEgress };

std::string_view to_string(Direction direction);

/// `app=web,tier in (a,b),!debug`; empty for a selector of everything.
std::string to_text(const model::Selector& selector);
/// `pods app=web in namespaces team=a`, `10.0.0.0/8 except 10.1.0.0/16`, `nodes role=edge`
std::string to_text(const model::PolicyPeer& peer);
/// `TCP 80`, `TCP 8000-8080`, `UDP http`, `SCTP`
std::string to_text(const model::PolicyPort& port);
/// `ingress[0]: from pods app=web to TCP 80`
std::string to_text(const model::PolicyRule& rule, Direction direction, size_t index);
/// `ingress[0] probes: Pass from pods app=prober in all namespaces to TCP 80`
std::string to_text(const model::ClusterPolicyRule& rule, Direction direction, size_t index);

/// Characters that names and labels cannot hold, written as %XX.
std::string escape(std::string_view raw);
/// `app=web,tier=a`, in order of keys. Characters that labels cannot hold are written as %XX, so two
/// different sets of labels never have one text.
std::string to_text(const model::Labels& labels);

}  // namespace bpfnet::compile
