#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/cni/error.h"
#include "control/cni/types.h"
#include "control/cni/version.h"

namespace bpfnet::cni {

/// One plugin's configuration, as it comes by stdin (C5). docs/cni.md describes the fields.
struct NetConf {
  Version version;
  std::string name;
  std::string type;
  std::string socket = "/run/bpfnet/bpfnet.sock";
  std::string state_dir = "/var/lib/bpfnet";
  std::string log_file;     ///< empty: none
  uint32_t mtu = 0;         ///< 0: the agent's default
  std::string ipam_plugin;  ///< type of a delegated IPAM plugin; empty: the agent's own pools
  ResultDns dns;            ///< runtimeConfig's if given, else the configuration's
  // runtimeConfig, args.cni and ipam (C19)
  std::vector<ipam::HostPort> host_ports;
  std::vector<ipam::RangeSet> ranges;
  std::vector<Address> ips;
  std::optional<Mac> mac;
  std::optional<AddResult> prev_result;
  std::optional<std::vector<AttachmentKey>> valid_attachments;  ///< of GC (C14)
  std::string text;  ///< as it came, for a delegated plugin: unknown fields are kept
};

/// Which version an answer to this input must use, whatever else is wrong with it.
Version version_of(std::string_view text);

/// Undecodable input is code 6, an unknown version 1, anything else that is wrong 7 naming the field.
/// `lenient` (DEL, GC): what only an ADD needs is not looked at, so that it cannot keep state alive (C11).
CniResult<NetConf> parse_conf(std::string_view text, bool lenient = false);

/// The member of `object` called `name` in any casing (C20), the exact one first; nullptr if none or null.
const nlohmann::json* find_any_case(const nlohmann::json& object, std::string_view name);

/// `{subnet, rangeStart, rangeEnd, gateway}` lists, as in ipRanges and ipam.ranges. Throws
/// std::invalid_argument naming the field.
std::vector<ipam::RangeSet> parse_ranges(const nlohmann::json& list);
/// `{hostPort, containerPort, protocol, hostIP}` in any casing (C20, C21). Throws likewise.
std::vector<ipam::HostPort> parse_port_mappings(const nlohmann::json& list);
/// Addresses with or without a prefix length. Throws likewise.
std::vector<Address> parse_ips(const nlohmann::json& list);

}  // namespace bpfnet::cni
