#include "control/cni/config.h"

#include <strings.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <tuple>

#include "control/cni/environment.h"
#include "control/cni/result.h"

namespace bpfnet::cni {
namespace {

using ipam::AddressRange;
using ipam::HostPort;
using nlohmann::json;

template <typename... Args>
[[noreturn]] void reject(fmt::format_string<Args...> format, Args&&... args) {
  throw std::invalid_argument(fmt::format(format, std::forward<Args>(args)...));
}

std::string text_of(const json& object, std::string_view name) {
  const json* found = find_any_case(object, name);
  if (found == nullptr) return {};
  if (!found->is_string()) reject("{}: not a string", name);
  return found->get<std::string>();
}

int64_t integer_of(const json& object, std::string_view name, int64_t lowest, int64_t highest) {
  const json* found = find_any_case(object, name);
  if (found == nullptr) reject("{} is missing", name);
  if (!found->is_number_integer() || found->get<int64_t>() < lowest || found->get<int64_t>() > highest) {
    reject("{}: {} is not in {}-{}", name, found->dump(), lowest, highest);
  }
  return found->get<int64_t>();
}

std::vector<std::string> texts_of(const json& object, std::string_view name) {
  std::vector<std::string> texts;
  const json* found = find_any_case(object, name);
  if (found == nullptr) return texts;
  if (!found->is_array()) reject("{}: not a list", name);
  for (const json& each : *found) {
    if (!each.is_string()) reject("{}: {} is not a string", name, each.dump());
    texts.push_back(each.get<std::string>());
  }
  return texts;
}

Address address_of(std::string_view text, std::string_view field) {
  auto address = Address::parse(text.substr(0, text.find('/')));
  if (!address) reject("{}: {}", field, address.error().message);
  return *address;
}

const json& object_of(const json& object, std::string_view name) {
  static const json empty = json::object();
  const json* found = find_any_case(object, name);
  if (found == nullptr) return empty;
  if (!found->is_object()) reject("{}: not an object", name);
  return *found;
}

AddressRange parse_range(const json& entry) {
  const std::string text = text_of(entry, "subnet");
  auto subnet = Cidr::parse(text);
  if (text.empty() || !subnet) reject("subnet: `{}` is no address range", text);
  AddressRange range = AddressRange::of(*subnet);
  const auto inside = [&](std::string_view field, Address& bound) {
    const std::string value = text_of(entry, field);
    if (value.empty()) return false;
    bound = address_of(value, field);
    if (!subnet->contains(bound)) reject("{}: {} is outside {}", field, value, subnet->to_string());
    return true;
  };
  Address first = range.first;
  Address last = range.last;
  const bool has_start = inside("rangeStart", first);
  const bool has_end = inside("rangeEnd", last);
  // Bounds never widen: network and broadcast address stay out.
  range.first = std::max(range.first, first);
  range.last = std::min(range.last, last);
  if (range.last < range.first) reject("rangeEnd: {} lies before rangeStart", range.last.to_string());
  if (has_start || has_end)
    range.name = fmt::format("{}-{}", range.first.to_string(), range.last.to_string());
  if (Address gateway; inside("gateway", gateway)) range.reserved.push_back(gateway);
  return range;
}

model::Protocol parse_protocol(const std::string& text) {
  if (text.empty() || ::strcasecmp(text.c_str(), "tcp") == 0) return model::Protocol::kTcp;
  if (::strcasecmp(text.c_str(), "udp") == 0) return model::Protocol::kUdp;
  if (::strcasecmp(text.c_str(), "sctp") == 0) return model::Protocol::kSctp;
  reject("protocol: `{}` is none of tcp, udp and sctp", text);
}

void refuse_overlaps(const std::vector<HostPort>& by_port) {
  for (size_t i = 0; i < by_port.size(); ++i)
    for (size_t j = i + 1; j < by_port.size() && by_port[j].protocol == by_port[i].protocol &&
                           by_port[j].host_port <= by_port[i].last();
         ++j)
      if (by_port[i].conflicts_with(by_port[j]))
        reject("portMappings: {} is mapped twice", by_port[j].to_string());
}

/// Neighbours that differ in nothing but their ports, by the same distance, become one range: runtimes send a
/// published range port by port. The same mapping twice counts once.
std::vector<HostPort> coalesce(std::vector<HostPort> ports) {
  std::ranges::sort(ports, {}, [](const HostPort& each) {
    return std::tuple(each.protocol, each.host_ip, each.host_port, each.container_port, each.count);
  });
  ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
  std::vector<HostPort> ranges;
  for (const HostPort& port : ports) {
    HostPort* last = ranges.empty() ? nullptr : &ranges.back();
    if (last && last->protocol == port.protocol && last->host_ip == port.host_ip &&
        last->last() + 1 == port.host_port && last->container_port + last->count == port.container_port) {
      last->count = static_cast<uint16_t>(last->count + port.count);
    } else {
      ranges.push_back(port);
    }
  }
  std::ranges::stable_sort(ranges, {},
                           [](const HostPort& each) { return std::pair(each.protocol, each.host_port); });
  refuse_overlaps(ranges);
  return ranges;
}

ResultDns parse_dns(const json& dns, std::string_view servers, std::string_view search) {
  return {texts_of(dns, servers), text_of(dns, "domain"), texts_of(dns, search), texts_of(dns, "options")};
}

void read_runtime_config(const json& conf, NetConf& out) {
  const json& runtime = object_of(conf, "runtimeConfig");
  const json& args = object_of(object_of(conf, "args"), "cni");
  if (const json* ports = find_any_case(runtime, "portMappings"))
    out.host_ports = parse_port_mappings(*ports);
  if (const json* ranges = find_any_case(runtime, "ipRanges")) out.ranges = parse_ranges(*ranges);
  for (const json* where : {&runtime, &args}) {
    if (const json* ips = find_any_case(*where, "ips"); ips != nullptr && out.ips.empty())
      out.ips = parse_ips(*ips);
    if (const std::string text = text_of(*where, "mac"); !text.empty() && !out.mac) {
      auto mac = Mac::parse(text);
      if (!mac) reject("mac: {}", mac.error().message);
      out.mac = *mac;
    }
  }
  out.dns = parse_dns(object_of(conf, "dns"), "nameservers", "search");
  if (const json& dns = object_of(runtime, "dns"); !dns.empty()) {
    if (ResultDns given = parse_dns(dns, "servers", "searches"); !given.empty()) out.dns = given;
  }
}

void read_own_fields(const json& conf, bool lenient, NetConf& out) {
  out.type = text_of(conf, "type");
  if (const std::string text = text_of(conf, "socket"); !text.empty()) out.socket = text;
  if (const std::string text = text_of(conf, "stateDir"); !text.empty()) out.state_dir = text;
  out.log_file = text_of(conf, "logFile");
  const json& ipam = object_of(conf, "ipam");
  const std::string type = text_of(ipam, "type");
  if (!type.empty() && type != "bpfnet") {
    if (type.find('/') != std::string::npos) reject("ipam.type: `{}` is a path, not a plugin's name", type);
    out.ipam_plugin = type;
  }
  if (lenient) return;
  if (find_any_case(conf, "mtu") != nullptr)
    out.mtu = static_cast<uint32_t>(integer_of(conf, "mtu", 0, 65535));
  if (out.mtu != 0 && out.mtu < 1280) reject("mtu: {} is below 1280, the least IPv6 allows", out.mtu);
  // host-local and others have a `ranges` of their own.
  if (const json* ranges = find_any_case(ipam, "ranges"); ranges != nullptr && out.ipam_plugin.empty()) {
    out.ranges = parse_ranges(*ranges);
  }
}

std::vector<AttachmentKey> parse_attachments(const json& list) {
  if (!list.is_array()) reject("cni.dev/valid-attachments: not a list");
  std::vector<AttachmentKey> keys;
  for (const json& entry : list) {
    AttachmentKey key{text_of(entry, "containerID"), text_of(entry, "ifname")};
    if (key.container_id.empty() || key.ifname.empty())
      reject("cni.dev/valid-attachments: {} lacks a key", entry.dump());
    keys.push_back(std::move(key));
  }
  return keys;
}

CniResult<NetConf> read_conf(const json& conf, std::string_view text, bool lenient) {
  NetConf out;
  out.text = text;
  const std::string version_text = text_of(conf, "cniVersion");
  const auto version = parse_version(version_text);
  if (!version) {
    return refuse(ErrorCode::kIncompatibleVersion, "cniVersion {} is not supported; supported are {}",
                  version_text, all_versions());
  }
  out.version = *version;
  out.name = text_of(conf, "name");
  if (out.name.empty()) return refuse(ErrorCode::kInvalidConfig, "name is missing");
  if (!valid_name(out.name)) {
    return refuse(ErrorCode::kInvalidConfig,
                  "name `{}`: only letters, digits, `_`, `.` and `-`, beginning with a letter or digit",
                  out.name);
  }
  read_own_fields(conf, lenient, out);
  if (const json* valid = find_any_case(conf, "cni.dev/valid-attachments")) {
    out.valid_attachments = parse_attachments(*valid);
  }
  if (lenient) return out;
  read_runtime_config(conf, out);
  if (const json* previous = find_any_case(conf, "prevResult")) {
    auto result = parse_result(*previous, out.version);
    if (!result) return refuse(ErrorCode::kDecode, "prevResult: {}", result.error().message);
    out.prev_result = std::move(*result);
  }
  return out;
}

}  // namespace

const json* find_any_case(const json& object, std::string_view name) {
  if (!object.is_object()) return nullptr;
  if (const auto exact = object.find(name); exact != object.end())
    return exact->is_null() ? nullptr : &*exact;
  for (const auto& [key, value] : object.items()) {
    if (key.size() == name.size() && ::strncasecmp(key.data(), name.data(), name.size()) == 0) {
      return value.is_null() ? nullptr : &value;
    }
  }
  return nullptr;
}

std::vector<ipam::RangeSet> parse_ranges(const json& list) {
  if (!list.is_array()) reject("ipRanges: not a list of lists");
  std::vector<ipam::RangeSet> sets;
  for (const json& set : list) {
    if (!set.is_array() || set.empty()) reject("ipRanges: {} is not a list of ranges", set.dump());
    ipam::RangeSet& ranges = sets.emplace_back();
    for (const json& entry : set) {
      if (!entry.is_object()) reject("ipRanges: {} is not a range", entry.dump());
      ranges.push_back(parse_range(entry));
      if (ranges.back().family() != ranges.front().family()) reject("ipRanges: one list mixes IPv4 and IPv6");
    }
  }
  return sets;
}

std::vector<HostPort> parse_port_mappings(const json& list) {
  if (!list.is_array()) reject("portMappings: not a list");
  std::vector<HostPort> ports;
  ports.reserve(list.size());
  for (const json& entry : list) {
    if (!entry.is_object()) reject("portMappings: {} is not an object", entry.dump());
    HostPort port;
    port.host_port = static_cast<uint16_t>(integer_of(entry, "hostPort", 1, 65535));
    port.container_port = static_cast<uint16_t>(integer_of(entry, "containerPort", 1, 65535));
    port.protocol = parse_protocol(text_of(entry, "protocol"));
    if (const std::string text = text_of(entry, "hostIP"); !text.empty()) {
      port.host_ip = address_of(text, "hostIP");
    }
    if (find_any_case(entry, "hostPortEnd") != nullptr) {
      const int64_t end = integer_of(entry, "hostPortEnd", port.host_port, 65535);
      if (port.container_port + end - port.host_port > 65535)
        reject("portMappings: {}-{} leads to container ports above 65535", port.to_string(), end);
      port.count = static_cast<uint16_t>(end - port.host_port + 1);
    }
    ports.push_back(port);
  }
  return coalesce(std::move(ports));
}

std::vector<Address> parse_ips(const json& list) {
  if (!list.is_array()) reject("ips: not a list");
  std::vector<Address> ips;
  for (const json& each : list) {
    if (!each.is_string()) reject("ips: {} is not a string", each.dump());
    ips.push_back(address_of(each.get<std::string>(), "ips"));
  }
  return ips;
}

Version version_of(std::string_view text) {
  const json conf = json::parse(text, nullptr, false);
  const json* version = find_any_case(conf, "cniVersion");
  if (version == nullptr) return conf.is_object() ? kVersions.front() : kNewestVersion;
  if (!version->is_string()) return kNewestVersion;
  return parse_version(version->get<std::string>()).value_or(kNewestVersion);
}

CniResult<NetConf> parse_conf(std::string_view text, bool lenient) {
  const json conf = json::parse(text, nullptr, false);
  if (!conf.is_object()) return refuse(ErrorCode::kDecode, "configuration on stdin is not a JSON object");
  try {
    return read_conf(conf, text, lenient);
  } catch (const std::exception& error) {
    return refuse(ErrorCode::kInvalidConfig, "{}", error.what());
  }
}

}  // namespace bpfnet::cni
