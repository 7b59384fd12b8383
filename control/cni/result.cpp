#include "control/cni/result.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace bpfnet::cni {
namespace {

using nlohmann::json;

constexpr Version kFirstWithIpList{0, 3, 0};
constexpr Version kFirstWithoutIpVersion{1, 0, 0};
constexpr Version kFirstWithMtu{1, 1, 0};

json dns_json(const ResultDns& dns) {
  json out = json::object();
  if (!dns.nameservers.empty()) out["nameservers"] = dns.nameservers;
  if (!dns.domain.empty()) out["domain"] = dns.domain;
  if (!dns.search.empty()) out["search"] = dns.search;
  if (!dns.options.empty()) out["options"] = dns.options;
  return out;
}

json route_json(const ResultRoute& route, Version version) {
  json out = {{"dst", route.dst.to_string()}};
  if (route.gateway) out["gw"] = route.gateway->to_string();
  if (version < kFirstWithMtu) return out;
  if (route.mtu != 0) out["mtu"] = route.mtu;
  if (route.advmss != 0) out["advmss"] = route.advmss;
  if (route.priority != 0) out["priority"] = route.priority;
  if (route.table) out["table"] = *route.table;
  if (route.scope) out["scope"] = *route.scope;
  return out;
}

// <= 0.2.0: `ip4` and `ip6`, the first address of each family with its routes.
json legacy_json(const AddResult& result) {
  json out = json::object();
  for (const ResultIp& ip : result.ips) {
    const char* name = ip.address.is_ipv4() ? "ip4" : "ip6";
    if (out.contains(name)) continue;
    json& entry = out[name];
    entry["ip"] = fmt::format("{}/{}", ip.address.to_string(), ip.prefix_length);
    if (ip.gateway) entry["gateway"] = ip.gateway->to_string();
    for (const ResultRoute& route : result.routes) {
      if (route.dst.family() == ip.address.family()) entry["routes"].push_back(route_json(route, {0, 2, 0}));
    }
  }
  return out;
}

json list_json(const AddResult& result, Version version) {
  json out = json::object();
  for (const ResultInterface& interface : result.interfaces) {
    json entry = {{"name", interface.name}};
    if (!interface.mac.empty()) entry["mac"] = interface.mac;
    if (interface.mtu != 0 && version >= kFirstWithMtu) entry["mtu"] = interface.mtu;
    if (!interface.sandbox.empty()) entry["sandbox"] = interface.sandbox;
    out["interfaces"].push_back(std::move(entry));
  }
  for (const ResultIp& ip : result.ips) {
    json entry = {{"address", fmt::format("{}/{}", ip.address.to_string(), ip.prefix_length)}};
    if (version < kFirstWithoutIpVersion) entry["version"] = ip.address.is_ipv4() ? "4" : "6";
    if (ip.gateway) entry["gateway"] = ip.gateway->to_string();
    if (ip.interface) entry["interface"] = *ip.interface;
    out["ips"].push_back(std::move(entry));
  }
  for (const ResultRoute& route : result.routes) out["routes"].push_back(route_json(route, version));
  return out;
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  return found->get<std::string>();
}

template <typename T>
std::optional<T> optional_number(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  if (!found->is_number_unsigned() || found->get<uint64_t>() > std::numeric_limits<T>::max()) {
    throw std::invalid_argument(fmt::format("{}: {} is out of range", key, found->dump()));
  }
  return found->get<T>();
}

template <typename T>
T number_of(const json& object, const char* key) {
  return optional_number<T>(object, key).value_or(T{});
}

const json& list_of(const json& object, const char* key) {
  static const json empty = json::array();
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? empty : *found;
}

std::optional<Address> gateway_of(const json& object, const char* key) {
  const std::string text = text_of(object, key);
  if (text.empty()) return std::nullopt;
  auto address = Address::parse(text);
  if (!address) throw std::invalid_argument(fmt::format("{}: {}", key, address.error().message));
  return *address;
}

ResultIp read_ip(const json& entry, const char* address_key) {
  const std::string text = text_of(entry, address_key);
  auto address = Address::parse(std::string_view(text).substr(0, text.find('/')));
  auto cidr = Cidr::parse(text);
  if (!address || !cidr)
    throw std::invalid_argument(fmt::format("{}: `{}` is no address with prefix", address_key, text));
  return {*address, cidr->length(), gateway_of(entry, "gateway"), optional_number<int>(entry, "interface")};
}

ResultRoute read_route(const json& entry) {
  auto dst = Cidr::parse(text_of(entry, "dst"));
  if (!dst) throw std::invalid_argument("route dst: " + dst.error().message);
  return {*dst,
          gateway_of(entry, "gw"),
          number_of<uint32_t>(entry, "mtu"),
          number_of<uint32_t>(entry, "advmss"),
          number_of<uint32_t>(entry, "priority"),
          optional_number<uint32_t>(entry, "table"),
          optional_number<uint8_t>(entry, "scope")};
}

ResultDns read_dns(const json& entry) {
  ResultDns dns;
  if (!entry.is_object()) return dns;
  dns.nameservers = list_of(entry, "nameservers").get<std::vector<std::string>>();
  dns.domain = text_of(entry, "domain");
  dns.search = list_of(entry, "search").get<std::vector<std::string>>();
  dns.options = list_of(entry, "options").get<std::vector<std::string>>();
  return dns;
}

AddResult read_result(const json& in, Version version) {
  AddResult result;
  if (version < kFirstWithIpList) {
    for (const char* name : {"ip4", "ip6"}) {
      const auto entry = in.find(name);
      if (entry == in.end() || entry->is_null()) continue;
      result.ips.push_back(read_ip(*entry, "ip"));
      for (const json& route : list_of(*entry, "routes")) result.routes.push_back(read_route(route));
    }
  } else {
    for (const json& entry : list_of(in, "interfaces")) {
      result.interfaces.push_back({text_of(entry, "name"), text_of(entry, "mac"),
                                   number_of<uint32_t>(entry, "mtu"), text_of(entry, "sandbox")});
    }
    for (const json& entry : list_of(in, "ips")) result.ips.push_back(read_ip(entry, "address"));
    for (const json& entry : list_of(in, "routes")) result.routes.push_back(read_route(entry));
  }
  if (const auto dns = in.find("dns"); dns != in.end()) result.dns = read_dns(*dns);
  return result;
}

}  // namespace

json to_json(const AddResult& result) {
  json out = list_json(result, kNewestVersion);
  if (!result.dns.empty()) out["dns"] = dns_json(result.dns);
  return out;
}

std::string result_json(const AddResult& result, Version version) {
  json out = version < kFirstWithIpList ? legacy_json(result) : list_json(result, version);
  out["cniVersion"] = version.to_string();
  if (!result.dns.empty()) out["dns"] = dns_json(result.dns);
  return out.dump();
}

CniResult<AddResult> parse_result(const json& in, Version fallback) {
  if (!in.is_object()) return refuse(ErrorCode::kDecode, "result is not an object");
  try {
    const std::string text = text_of(in, "cniVersion");
    const auto version = text.empty() ? fallback : parse_version(text);
    if (!version) return refuse(ErrorCode::kDecode, "result has the unknown cniVersion {}", text);
    return read_result(in, *version);
  } catch (const std::exception& error) {
    return refuse(ErrorCode::kDecode, "result: {}", error.what());
  }
}

std::string error_json(const CniError& error, Version version) {
  json out = {{"cniVersion", version.to_string()}, {"code", error.code}, {"msg", error.message}};
  if (!error.details.empty()) out["details"] = error.details;
  // The message may quote what a runtime sent, whatever bytes that was.
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

AddResult merge(const AddResult& previous, const AddResult& ours) {
  AddResult merged = previous;
  const int shift = static_cast<int>(previous.interfaces.size());
  merged.interfaces.insert(merged.interfaces.end(), ours.interfaces.begin(), ours.interfaces.end());
  for (ResultIp ip : ours.ips) {
    if (ip.interface) *ip.interface += shift;
    merged.ips.push_back(ip);
  }
  merged.routes.insert(merged.routes.end(), ours.routes.begin(), ours.routes.end());
  if (!ours.dns.empty()) merged.dns = ours.dns;
  return merged;
}

}  // namespace bpfnet::cni
