#include "control/cni/wire.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "control/cni/config.h"
#include "control/cni/environment.h"
#include "control/cni/result.h"

namespace bpfnet::cni {
namespace {

using nlohmann::json;

// Paths and names may hold any bytes; the JSON stays valid whatever they are.
std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json ips_json(const std::vector<Address>& ips) {
  json list = json::array();
  for (const Address& ip : ips) list.push_back(ip.to_string());
  return list;
}

json ranges_json(const std::vector<ipam::RangeSet>& sets) {
  json list = json::array();
  for (const ipam::RangeSet& set : sets) {
    json& ranges = list.emplace_back(json::array());
    for (const ipam::AddressRange& range : set) {
      json entry = {
          {"first", range.first.to_string()}, {"last", range.last.to_string()}, {"name", range.name}};
      entry["reserved"] = ips_json(range.reserved);
      ranges.push_back(std::move(entry));
    }
  }
  return list;
}

json ports_json(const std::vector<ipam::HostPort>& ports) {
  json list = json::array();
  for (const ipam::HostPort& port : ports) {
    json entry = {{"hostPort", port.host_port},
                  {"containerPort", port.container_port},
                  {"protocol", model::to_string(port.protocol)}};
    if (port.count > 1) entry["hostPortEnd"] = port.last();
    if (port.host_ip) entry["hostIP"] = port.host_ip->to_string();
    list.push_back(std::move(entry));
  }
  return list;
}

json key_json(const AttachmentKey& key) {
  return {{"containerId", key.container_id}, {"ifname", key.ifname}};
}

Address address_at(const json& entry, const char* name) {
  auto address = Address::parse(entry.at(name).get<std::string>());
  if (!address) throw std::invalid_argument(fmt::format("{}: {}", name, address.error().message));
  return *address;
}

std::vector<ipam::RangeSet> read_ranges(const json& list) {
  std::vector<ipam::RangeSet> sets;
  for (const json& set : list) {
    ipam::RangeSet& ranges = sets.emplace_back();
    for (const json& entry : set) {
      ipam::AddressRange range{address_at(entry, "first"), address_at(entry, "last"),
                               parse_ips(entry.value("reserved", json::array())),
                               entry.at("name").get<std::string>()};
      if (range.first.family() != range.last.family() || range.last < range.first) {
        throw std::invalid_argument(fmt::format("ipRanges: {} is no range", range.name));
      }
      ranges.push_back(std::move(range));
    }
  }
  return sets;
}

// The agent checks again what the plugin has checked: it alone runs with its own rights.
AttachmentKey read_key(const json& in) {
  AttachmentKey key{in.at("containerId").get<std::string>(), in.at("ifname").get<std::string>()};
  if (!valid_name(key.container_id)) throw std::invalid_argument("containerId: not a valid ID");
  if (!valid_ifname(key.ifname)) throw std::invalid_argument("ifname: not a valid name");
  return key;
}

AddRequest::Delegated read_delegated(const json& ipam) {
  AddRequest::Delegated delegated{parse_ips(ipam.at("ips")), {}};
  for (const json& route : ipam.value("routes", json::array())) {
    auto dst = Cidr::parse(route.get<std::string>());
    if (!dst) throw std::invalid_argument("ipam.routes: " + dst.error().message);
    delegated.routes.push_back(*dst);
  }
  return delegated;
}

AddRequest read_add(const json& in) {
  AddRequest request;
  request.key = read_key(in);
  request.netns = in.at("netns").get<std::string>();
  request.network = in.at("network").get<std::string>();
  if (const auto pod = in.find("pod"); pod != in.end()) {
    request.pod = {pod->value("namespace", ""), pod->value("name", "")};
    request.pod_uid = pod->value("uid", "");
  }
  request.ips = parse_ips(in.value("ips", json::array()));
  request.ranges = read_ranges(in.value("ipRanges", json::array()));
  if (const std::string mac = in.value("mac", ""); !mac.empty()) {
    auto parsed = Mac::parse(mac);
    if (!parsed) throw std::invalid_argument("mac: " + parsed.error().message);
    request.mac = *parsed;
  }
  request.mtu = in.value("mtu", 0U);
  request.host_ports = parse_port_mappings(in.value("portMappings", json::array()));
  if (const auto ipam = in.find("ipam"); ipam != in.end() && ipam->value("type", "bpfnet") == "delegated") {
    request.delegated = read_delegated(*ipam);
  }
  return request;
}

/// Parses and reads; whatever the reader throws becomes an error that names the field.
template <typename Read>
auto decode(std::string_view text, Read&& read) -> CniResult<decltype(read(json{}))> {
  const json in = json::parse(text, nullptr, false);
  if (!in.is_object()) return refuse(ErrorCode::kDecode, "request body is not a JSON object");
  try {
    return read(in);
  } catch (const json::exception& error) {
    return refuse(ErrorCode::kDecode, "request body: {}", error.what());
  } catch (const std::exception& error) {
    return refuse(ErrorCode::kInvalidConfig, "{}", error.what());
  }
}

AddResult read_result(const json& in) {
  auto result = parse_result(in, kNewestVersion);
  if (!result) throw std::invalid_argument(result.error().message);
  return std::move(*result);
}

}  // namespace

std::string encode(const AddRequest& request) {
  json out = key_json(request.key);
  out["netns"] = request.netns;
  out["network"] = request.network;
  if (!request.pod.name.empty()) {
    out["pod"] = {{"namespace", request.pod.ns}, {"name", request.pod.name}, {"uid", request.pod_uid}};
  }
  if (!request.ips.empty()) out["ips"] = ips_json(request.ips);
  if (!request.ranges.empty()) out["ipRanges"] = ranges_json(request.ranges);
  if (request.mac) out["mac"] = request.mac->to_string();
  if (request.mtu != 0) out["mtu"] = request.mtu;
  if (!request.host_ports.empty()) out["portMappings"] = ports_json(request.host_ports);
  if (request.delegated) {
    json routes = json::array();
    for (const Cidr& route : request.delegated->routes) routes.push_back(route.to_string());
    out["ipam"] = {{"type", "delegated"}, {"ips", ips_json(request.delegated->ips)}, {"routes", routes}};
  }
  return dump(out);
}

std::string encode(const DeleteRequest& request) {
  json out = key_json(request.key);
  out["netns"] = request.netns;
  return dump(out);
}

std::string encode(const CheckRequest& request) {
  json out = key_json(request.key);
  out["netns"] = request.netns;
  out["prevResult"] = to_json(request.prev_result);
  return dump(out);
}

std::string encode(const GcRequest& request) {
  json out = {{"network", request.network}, {"valid", json::array()}};
  for (const AttachmentKey& key : request.valid) out["valid"].push_back(key_json(key));
  return dump(out);
}

std::string encode(const AddReply& reply) {
  json out = to_json(reply.result);
  out["endpoint"] = reply.endpoint;
  return dump(out);
}

std::string encode(const CniError& error) {
  json inner = {{"code", error.code}, {"message", error.message}};
  if (!error.details.empty()) inner["details"] = error.details;
  return dump(json{{"error", inner}});
}

CniResult<AddRequest> decode_add(std::string_view text) {
  return decode(text, read_add);
}

CniResult<DeleteRequest> decode_delete(std::string_view text) {
  return decode(text, [](const json& in) { return DeleteRequest{read_key(in), in.value("netns", "")}; });
}

CniResult<CheckRequest> decode_check(std::string_view text) {
  return decode(text, [](const json& in) {
    return CheckRequest{read_key(in), in.at("netns").get<std::string>(), read_result(in.at("prevResult"))};
  });
}

CniResult<GcRequest> decode_gc(std::string_view text) {
  return decode(text, [](const json& in) {
    GcRequest request{in.at("network").get<std::string>(), {}};
    for (const json& key : in.at("valid")) request.valid.push_back(read_key(key));
    return request;
  });
}

CniResult<AddReply> decode_reply(std::string_view text) {
  return decode(text, [](const json& in) {
    return AddReply{in.at("endpoint").get<uint16_t>(), read_result(in)};
  });
}

CniError decode_error(int http_status, std::string_view text) {
  const json in = json::parse(text, nullptr, false);
  const json* error = find_any_case(in, "error");
  if (error != nullptr && error->is_object()) {
    try {
      return {error->at("code").get<int>(), error->at("message").get<std::string>(),
              error->value("details", "")};
    } catch (const json::exception&) {
      // Not the shape we speak: told as it is below.
    }
  }
  return {
      static_cast<int>(ErrorCode::kOther), fmt::format("agent answered HTTP {}: {}", http_status, text), {}};
}

}  // namespace bpfnet::cni
