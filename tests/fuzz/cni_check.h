#pragma once

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "control/cni/config.h"
#include "control/cni/environment.h"
#include "control/cni/result.h"
#include "control/cni/wire.h"

namespace bpfnet::cni {

/// Aborts unless `holds`, in every build: the fuzzer must see it.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// What must hold for every text on stdin, in CNI_ARGS, from a delegated plugin and on the local API. Used by
/// the fuzz target and by the replay of its corpus.
inline void check_cni(std::string_view text) {
  const Version version = version_of(text);
  for (const bool lenient : {false, true}) {
    const auto conf = parse_conf(text, lenient);
    if (!conf) {
      // An error can always be told, as JSON, in a version we speak.
      const auto told = nlohmann::json::parse(error_json(conf.error(), version), nullptr, false);
      require(told.is_object() && told["code"] == conf.error().code && !conf.error().message.empty());
      continue;
    }
    require(conf->version == version && valid_name(conf->name));
    for (const ipam::HostPort& port : conf->host_ports)
      require(port.host_port != 0 && port.container_port != 0);
    for (const ipam::RangeSet& set : conf->ranges) {
      require(!set.empty());
      for (const ipam::AddressRange& range : set) require(range.first <= range.last && !range.name.empty());
    }
    if (!conf->prev_result) continue;
    for (const Version each : kVersions) {
      const auto again = parse_result(nlohmann::json::parse(result_json(*conf->prev_result, each)), each);
      require(again.has_value());
      require(result_json(*again, each) == result_json(*conf->prev_result, each));
    }
  }

  Variables variables = {{"CNI_CONTAINERID", "c"}, {"CNI_NETNS", "/n"}, {"CNI_IFNAME", "eth0"}};
  variables["CNI_ARGS"] = std::string(text);
  (void)parse_environment(Command::kAdd, variables);
  variables["CNI_IFNAME"] = std::string(text);
  if (const auto environment = parse_environment(Command::kDel, variables)) {
    require(environment->key.ifname.size() <= 15);
    require(host_ifname(environment->key).size() == 15);
  }

  if (const auto request = decode_add(text)) {
    const auto again = decode_add(encode(*request));
    require(again && encode(*again) == encode(*request));
  }
  if (const auto reply = decode_reply(text)) require(decode_reply(encode(*reply)).has_value());
  if (const auto request = decode_check(text)) require(decode_check(encode(*request)).has_value());
  if (const auto request = decode_gc(text)) require(decode_gc(encode(*request)).has_value());
  if (const auto request = decode_delete(text)) require(decode_delete(encode(*request)).has_value());
  (void)encode(decode_error(500, text));
}

}  // namespace bpfnet::cni
