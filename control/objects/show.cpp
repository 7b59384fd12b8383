#include "control/objects/show.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "control/objects/kinds.h"
#include "control/observe/table.h"

namespace bpfnet::objects {
namespace {

using nlohmann::ordered_json;
using sources::Kind;

const ordered_json& at(const ordered_json& json, std::string_view path) {
  static const ordered_json kNothing;
  const ordered_json* value = &json;
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    if (!value->is_object()) return kNothing;
    const auto found = value->find(std::string(path.substr(0, dot)));
    if (found == value->end()) return kNothing;
    value = &*found;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return *value;
}

std::string text(const ordered_json& json, std::string_view path, std::string_view otherwise = "<none>") {
  const ordered_json& value = at(json, path);
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() || value.is_structured() ? std::string(otherwise) : value.dump();
}

/// One word for each item that has one, as kubectl joins them.
template <typename Word>
std::string joined(const ordered_json& list, Word word) {
  std::vector<std::string> words;
  if (list.is_array())
    for (const ordered_json& item : list)
      if (std::string each = word(item); !each.empty()) words.push_back(std::move(each));
  return words.empty() ? "<none>" : fmt::format("{}", fmt::join(words, ","));
}

std::string words(const ordered_json& list) {
  return joined(list, [](const ordered_json& item) { return text(item, "", ""); });
}

std::string pairs(const ordered_json& map) {
  std::vector<std::string> words;
  if (map.is_object())
    for (const auto& [key, value] : map.items())
      words.push_back(fmt::format("{}={}", key, text(value, "", "")));
  return words.empty() ? "<none>" : fmt::format("{}", fmt::join(words, ","));
}

std::string service_port(const ordered_json& port) {
  const std::string node_port = text(port, "nodePort", "");
  return fmt::format("{}{}{}/{}", text(port, "port", "?"), node_port.empty() ? "" : ":", node_port,
                     text(port, "protocol", "TCP"));
}

std::string first_of(const std::string& first, const std::string& second) {
  return first != "<none>" ? first : second;
}

struct Columns {
  std::vector<std::string> heads;
  std::vector<std::string> (*cells)(const ordered_json&);
};

std::vector<std::string> node_cells(const ordered_json& json) {
  const auto internal = [](const ordered_json& address) {
    return text(address, "type", "") == "InternalIP" ? text(address, "address", "") : std::string();
  };
  return {joined(at(json, "status.addresses"), internal),
          first_of(words(at(json, "spec.podCIDRs")), text(json, "spec.podCIDR"))};
}

std::vector<std::string> pod_cells(const ordered_json& json) {
  const auto ip = [](const ordered_json& item) { return text(item, "ip", ""); };
  return {text(json, "status.phase", "Pending"),
          first_of(joined(at(json, "status.podIPs"), ip), text(json, "status.podIP")),
          text(json, "spec.nodeName"), pairs(at(json, "metadata.labels"))};
}

std::vector<std::string> service_cells(const ordered_json& json) {
  const auto ingress = [](const ordered_json& item) { return text(item, "ip", ""); };
  return {
      text(json, "spec.type", "ClusterIP"),
      first_of(words(at(json, "spec.clusterIPs")), text(json, "spec.clusterIP")),
      first_of(joined(at(json, "status.loadBalancer.ingress"), ingress), words(at(json, "spec.externalIPs"))),
      joined(at(json, "spec.ports"), service_port)};
}

std::vector<std::string> slice_cells(const ordered_json& json) {
  const auto port = [](const ordered_json& item) { return text(item, "port", ""); };
  const auto address = [](const ordered_json& item) {
    const ordered_json& addresses = at(item, "addresses");
    return addresses.is_array() && !addresses.empty() ? text(addresses[0], "", "") : std::string();
  };
  const ordered_json& labels = at(json, "metadata.labels");
  const auto service = labels.is_object() ? labels.find("kubernetes.io/service-name") : labels.end();
  return {labels.is_object() && service != labels.end() ? text(*service, "") : "<none>",
          text(json, "addressType"), joined(at(json, "ports"), port), joined(at(json, "endpoints"), address)};
}

std::vector<std::string> policy_cells(const ordered_json& json) {
  std::string selector = pairs(at(json, "spec.podSelector.matchLabels"));
  if (at(json, "spec.podSelector.matchExpressions").is_array()) selector += ",...";
  return {selector, words(at(json, "spec.policyTypes"))};
}

const Columns& columns_of(Kind kind) {
  using Json = const ordered_json&;
  static const std::map<Kind, Columns> kColumns = {
      {Kind::kNamespace,
       {{"LABELS"}, [](Json json) { return std::vector{pairs(at(json, "metadata.labels"))}; }}},
      {Kind::kNode, {{"INTERNAL-IP", "POD-CIDRS"}, node_cells}},
      {Kind::kPod, {{"STATUS", "IP", "NODE", "LABELS"}, pod_cells}},
      {Kind::kService, {{"TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"}, service_cells}},
      {Kind::kEndpointSlice, {{"SERVICE", "ADDRESSTYPE", "PORTS", "ENDPOINTS"}, slice_cells}},
      {Kind::kNetworkPolicy, {{"POD-SELECTOR", "POLICY-TYPES"}, policy_cells}},
      {Kind::kServiceCidr, {{"CIDRS"}, [](Json json) { return std::vector{words(at(json, "spec.cidrs"))}; }}},
      {Kind::kClusterNetworkPolicy,
       {{"TIER", "PRIORITY"}, [](Json json) {
          return std::vector{text(json, "spec.tier"), text(json, "spec.priority")};
        }}}};
  return kColumns.at(kind);
}

std::string table(const std::map<Kind, std::vector<const Stored*>>& by_kind, const ShowOptions& options) {
  std::string result;
  for (const auto& [kind, objects] : by_kind) {
    const Columns& columns = columns_of(kind);
    std::vector<std::string> heads;
    if (options.namespaces && sources::is_namespaced(kind)) heads.emplace_back("NAMESPACE");
    heads.emplace_back("NAME");
    heads.insert(heads.end(), columns.heads.begin(), columns.heads.end());
    if (options.form == Form::kWide) heads.emplace_back("DEFINED-AT");
    observe::Table rows(heads);
    for (const Stored* object : objects) {
      std::vector<std::string> cells;
      if (options.namespaces && sources::is_namespaced(kind)) cells.push_back(object->key.name.ns);
      cells.push_back(by_kind.size() > 1 ? resource_name(object->key) : object->key.name.name.str());
      for (std::string& cell : columns.cells(object->json)) cells.push_back(std::move(cell));
      if (options.form == Form::kWide) cells.push_back(object->where);
      rows.add(std::move(cells));
    }
    result += (result.empty() ? "" : "\n") + rows.text();
  }
  return result;
}

std::string json(const std::vector<Stored>& objects, bool single) {
  if (single && objects.size() == 1) return json_text(objects.front().json);
  ordered_json items = ordered_json::array();
  for (const Stored& object : objects) items.push_back(object.json);
  return json_text({{"apiVersion", "v1"}, {"kind", "List"}, {"items", std::move(items)}});
}

}  // namespace

std::string show(const std::vector<Stored>& objects, const ShowOptions& options) {
  std::string result;
  switch (options.form) {
    case Form::kJson:
      return json(objects, options.single);
    case Form::kYaml:
      for (const Stored& object : objects)
        result +=
            (result.empty() ? "" : "---\n") + (object.text.empty() ? yaml_text(object.json) : object.text);
      return result;
    case Form::kName:
      for (const Stored& object : objects) result += resource_name(object.key) + "\n";
      return result;
    default: {
      std::map<Kind, std::vector<const Stored*>> by_kind;
      for (const Stored& object : objects) by_kind[object.key.kind].push_back(&object);
      return table(by_kind, options);
    }
  }
}

}  // namespace bpfnet::objects
