#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "maps/abi/config.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/event.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/service.h"
#include "maps/abi/socket.h"

// Every record as named fields: one description serves tables for people and JSON for programs.
namespace bpfnet::maps {

/// A decoded value: a number, a truth, a text or a list of texts.
using FieldValue = std::variant<uint64_t, bool, std::string, std::vector<std::string>>;

struct Field {
  std::string name;  ///< JSON key and column head, snake_case
  FieldValue value;
};

/// Fields of one record in the order of its layout; padding left out.
using Fields = std::vector<Field>;

Fields decode(uint32_t index);
/// The cookie of a network namespace.
Fields decode(uint64_t cookie);
Fields decode(const flow_key& key);
Fields decode(const flow& value);
Fields decode(const flow_slot& value);
Fields decode(const flow_table& value);
Fields decode(const endpoint& value);
Fields decode(const endpoint_usage& value);
Fields decode(const address_key& key);
Fields decode(const address_info& value);
Fields decode(const cidr_key& key);
Fields decode(const cidr_info& value);
Fields decode(const node& value);
Fields decode(const interface& value);
Fields decode(const frontend_key& key);
Fields decode(const frontend& value);
Fields decode(const frontend_range_key& key);
Fields decode(const source_range_key& key);
Fields decode(const source_range& value);
Fields decode(const affinity_key& key);
Fields decode(const affinity& value);
Fields decode(const backend_slot& value);
Fields decode(const backend_state& value);
Fields decode(const policy_key& key);
Fields decode(const policy_entry& value);
Fields decode(const socket_namespace& value);
Fields decode(const socket_count& value);
Fields decode(const packet_count& value);
Fields decode(const packet_event& value);
Fields decode(const datapath_config& value);

/// One cell: `tcp`, `17`, `yes`, `service,translated`; `-` for an empty list or text.
std::string to_text(const FieldValue& value);
/// `name=value name=value`
std::string to_text(const Fields& fields);
/// An object with the fields in order.
nlohmann::ordered_json to_json(const Fields& fields);
nlohmann::ordered_json to_json(const FieldValue& value);

}  // namespace bpfnet::maps
