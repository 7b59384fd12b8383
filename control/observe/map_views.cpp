#include <algorithm>

#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/dump.h"

namespace bpfnet::observe {
namespace {

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

}  // namespace

Result<View> map_list_view(const maps::Maps& maps) {
  View view;
  view.json = nlohmann::ordered_json::array();
  Table table({"MAP", "TYPE", "KEY", "VALUE", "ENTRIES", "ID", "PURPOSE"});
  for (const auto& map : maps::summarize(maps)) {
    table.add({map.name, map.type, std::to_string(map.info.key_size), std::to_string(map.info.value_size),
               std::to_string(map.info.max_entries), std::to_string(map.info.id), map.purpose});
    view.json.push_back({{"name", map.name},
                         {"type", map.type},
                         {"key_size", map.info.key_size},
                         {"value_size", map.info.value_size},
                         {"max_entries", map.info.max_entries},
                         {"id", map.info.id},
                         {"purpose", map.purpose}});
  }
  view.text = table.text();
  return view;
}

Result<View> map_dump_view(const maps::Maps& maps, const std::string& name, bool all) {
  auto entries = maps::dump(maps, name, {.all = all});
  if (!entries) return pass(entries);
  View view;
  view.json = nlohmann::ordered_json::array();
  if (entries->empty()) {
    view.text = "map " + name + " is empty\n";
    return view;
  }
  std::vector<std::string> heads;
  for (const auto* fields : {&entries->front().key, &entries->front().value})
    for (const auto& field : *fields) heads.push_back(upper(field.name));
  Table table(heads);
  for (const auto& entry : *entries) {
    std::vector<std::string> cells;
    for (const auto* fields : {&entry.key, &entry.value})
      for (const auto& field : *fields) cells.push_back(maps::to_text(field.value));
    table.add(std::move(cells));
    view.json.push_back({{"key", maps::to_json(entry.key)}, {"value", maps::to_json(entry.value)}});
  }
  view.text = table.text();
  return view;
}

}  // namespace bpfnet::observe
