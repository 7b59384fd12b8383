#pragma once

#include "control/sources/decode.h"
#include "control/sources/field.h"

// The decoders of the kinds, one function each. `root` is the whole object; the metadata has been read.
// A complaint that costs the object is kept in the findings of `root`; the returned value is then not used.
namespace bpfnet::sources {

struct Metadata {
  model::ObjectName name;
  model::Labels labels;
  bool labels_readable = true;
};

model::Namespace decode_namespace(const Field& root, const Metadata& metadata);
model::Node decode_node(const Field& root, const Metadata& metadata);
model::Pod decode_pod(const Field& root, const Metadata& metadata);
model::Service decode_service(const Field& root, const Metadata& metadata);
/// nullopt: a slice of host names, which is left out (S4).
std::optional<model::EndpointSlice> decode_slice(const Field& root, const Metadata& metadata);
model::ServiceCidr decode_service_cidr(const Field& root, const Metadata& metadata);
model::NetworkPolicy decode_policy(const Field& root, const Metadata& metadata);
/// What a refused policy does until it is readable: isolates, allows nothing. The selector and the directions
/// are its own where these are readable, else every pod of the namespace and both directions.
model::NetworkPolicy closed_policy(const Field& root, const Metadata& metadata);
model::ClusterNetworkPolicy decode_cluster_policy(const Field& root, const Metadata& metadata);
/// What a refused one does until it is readable: rules that cannot be read fail closed, as in A12. If tier,
/// priority or subject cannot be read, Deny and Pass deny what they match, and nothing is accepted. Nothing
/// if there is no rule to speak of.
std::optional<model::ClusterNetworkPolicy> closed_cluster_policy(const Field& root, const Metadata& metadata);

/// Annotation policy.bpfnet.io/mode: does it say `audit`?
bool decode_audit(const Field& root);
model::Selector decode_selector(const Field& field);
/// Refuses fields of a map that are not among `known`.
void know_all(const Field& field, std::initializer_list<std::string_view> known);
/// As ports of containers are named.
bool is_port_name(std::string_view name);

/// `protocol`, TCP when missing.
model::Protocol decode_protocol(const Field& field);
/// A label map: keys and values as Kubernetes allows them.
model::Labels decode_labels(const Field& field);
/// A port number from `low` (0 or 1) to 65535; 0 when missing or not readable.
uint16_t decode_port(const Field& field, int64_t low);

}  // namespace bpfnet::sources
