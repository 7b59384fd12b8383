#include <fmt/format.h>

#include "control/observe/set_view.h"
#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/convert.h"
#include "maps/decode.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {}  // namespace

Result<View> endpoints_view(const maps::Maps& maps, const Names& names) {
  auto endpoints = maps.endpoints.values();
  if (!endpoints) return pass(endpoints);
  auto usages = maps.endpoint_usages.values();
  if (!usages) return pass(usages);

  View view;
  view.json = nlohmann::ordered_json::array();
  Table table({"INDEX", "POD", "STATE", "IPV4", "IPV6", "INGRESS", "EGRESS", "IDENTITY", "FLOWS", "IFINDEX"});
  for (uint32_t index = 1; index < endpoints->size(); ++index) {
    const endpoint& record = (*endpoints)[index];
    if (record.state == ENDPOINT_FREE) continue;
    const uint32_t flows = index < usages->size() ? (*usages)[index].flows : 0;
    const std::string pod = names.endpoint(index);
    table.add({std::to_string(index), pod, maps::endpoint_state_label(record.state), address_text(record.ip4),
               address_text(record.ip6), set_text(record.ingress_set), set_text(record.egress_set),
               std::to_string(record.identity), std::to_string(flows), std::to_string(record.ifindex)});
    nlohmann::ordered_json json = {{"index", index}, {"name", pod}};
    json.update(maps::to_json(maps::decode(record)));
    json["identity_text"] = names.identity(record.identity);
    json["flows"] = flows;
    view.json.push_back(std::move(json));
  }
  view.text = table.text();
  return view;
}

}  // namespace bpfnet::observe
