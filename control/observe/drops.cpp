#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/abi/reasons.h"
#include "maps/decode.h"
#include "maps/key_text.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

std::string sentence(uint32_t reason) {
  for (const auto& each : maps::drop_reasons())
    if (each.number == reason) return std::string(each.text);
  return "This bpfnetctl is older than the datapath and does not know the reason.";
}

/// The wall clock at a moment of CLOCK_MONOTONIC, from which events are stamped.
std::chrono::system_clock::time_point wall_clock(uint64_t monotonic_ns) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto age = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec) -
                   std::chrono::nanoseconds(monotonic_ns);
  return std::chrono::system_clock::now() -
         std::chrono::duration_cast<std::chrono::system_clock::duration>(age);
}

std::string time_text(uint64_t monotonic_ns) {
  const auto time = wall_clock(monotonic_ns);
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count() % 1000;
  return fmt::format("{:%H:%M:%S}.{:03}", fmt::localtime(std::chrono::system_clock::to_time_t(time)), millis);
}

std::string what_happened(const packet_event& event) {
  if (event.verdict == VERDICT_DROP) return maps::drop_reason_label(event.reason);
  if ((event.flags & EVENT_AUDITED) != 0) return "audited " + maps::drop_reason_label(event.reason);
  return maps::verdict_label(event.verdict);
}

/// The table of what was counted, "" when nothing was; its rows are added to `list` as well.
std::string add_counts(const std::vector<packet_count>& counts, bool audited, nlohmann::ordered_json& list) {
  Table table({"HOOK", "REASON", "PACKETS", "BYTES", "MEANING"});
  for (uint32_t i = 0; i < counts.size(); ++i) {
    const packet_count& count = counts[i];
    if (count.packets == 0) continue;
    const std::string hook = maps::hook_label(i / DROP_REASONS_MAX);
    const std::string reason = maps::drop_reason_label(i % DROP_REASONS_MAX);
    const std::string meaning = sentence(i % DROP_REASONS_MAX);
    table.add({hook, reason, std::to_string(count.packets), std::to_string(count.bytes), meaning});
    list.push_back({{"hook", hook},
                    {"reason", reason},
                    {"audited", audited},
                    {"packets", count.packets},
                    {"bytes", count.bytes},
                    {"meaning", meaning}});
  }
  return table.empty() ? "" : table.text();
}

}  // namespace

Result<View> drops_view(const maps::Maps& maps) {
  auto dropped = maps.drop_counts.sums();
  if (!dropped) return pass(dropped);
  auto audited = maps.audit_counts.sums();
  if (!audited) return pass(audited);
  View view;
  view.json = nlohmann::ordered_json::array();
  const std::string drops = add_counts(*dropped, false, view.json);
  const std::string audits = add_counts(*audited, true, view.json);
  view.text = drops.empty() ? "nothing was dropped\n" : drops;
  if (!audits.empty()) view.text += "\nlet through, as policy is audited; else dropped:\n" + audits;
  return view;
}

View event_view(const packet_event& event, const Names& names) {
  View view;
  view.json = maps::to_json(maps::decode(event));
  view.json["meaning"] = sentence(event.reason);
  view.json["source_name"] = names.endpoint(event.src_endpoint);
  view.json["destination_name"] = names.endpoint(event.dst_endpoint);
  view.json["source_identity_text"] = names.identity(event.src_identity);
  view.json["destination_identity_text"] = names.identity(event.dst_identity);
  view.json["rule_text"] = names.rule(event.rule);
  view.json["service_name"] = names.service(event.service);

  view.text = fmt::format("{} {} {} {}", time_text(event.time_ns), maps::hook_label(event.hook),
                          what_happened(event), maps::key_text(event.key));
  const auto append = [&](std::string_view what, const std::string& name) {
    if (!name.empty()) view.text += fmt::format(", {} {}", what, name);
  };
  append("from", names.endpoint(event.src_endpoint));
  append("to", names.endpoint(event.dst_endpoint));
  append("service", names.service(event.service));
  const bool audited = (event.flags & EVENT_AUDITED) != 0;
  const bool refused = event.verdict == VERDICT_DROP || audited;
  const bool ingress = event.reason == DROP_POLICY_INGRESS;
  const bool by_policy = ingress || event.reason == DROP_POLICY_EGRESS;
  append(by_policy ? "denied by" : "allowed by", names.rule(event.rule));
  // The pod whose policy it was, and which policies close it.
  const bool reversed = (event.flags & EVENT_REVERSED) != 0;
  if (by_policy && event.rule == 0)
    append("isolated by",
           names.isolated_by(ingress != reversed ? event.dst_endpoint : event.src_endpoint, ingress));
  if (refused) view.text += ": " + sentence(event.reason);
  if (audited) view.text += " It was let through: the policy is audited.";
  view.text += "\n";
  return view;
}

}  // namespace bpfnet::observe
