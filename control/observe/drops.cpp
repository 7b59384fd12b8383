#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "control/observe/explain.h"
#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/abi/policy.h"
#include "maps/abi/reasons.h"
#include "maps/convert.h"
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

/// Who talks to whom, as far as it is known.
struct Ends {
  std::string source;
  std::string destination;
};

std::string name_of(uint16_t endpoint, const addr& address, uint32_t identity, const Names& names) {
  if (endpoint != 0) return names.endpoint(endpoint);
  if (std::string pod = names.pod_at(maps::from_abi(address)); !pod.empty()) return pod;
  return identity == 0 || identity == IDENTITY_WORLD ? "" : compile::short_identity(names.identity(identity));
}

/// What policy calls the destination is the backend.
Ends ends_of(const packet_event& event, const Names& names) {
  const bool translated =
      (event.flags & EVENT_REVERSED) == 0 && !maps::from_abi(event.backend).is_unspecified();
  const addr& destination = translated ? event.backend : event.key.daddr;
  return {name_of(event.src_endpoint, event.key.saddr, event.src_identity, names),
          name_of(event.dst_endpoint, destination, event.dst_identity, names)};
}

/// `ingress of default/web: isolated by ...`
std::string policy_text(const PolicyEvent& policy, const Names& names) {
  return fmt::format("{} of {}: {}", compile::to_string(policy.question.direction),
                     names.endpoint(policy.endpoint), policy.why.text);
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

View event_view(const packet_event& event, const Names& names, LiveSets* sets) {
  const auto policy = explain_event(event, names, sets);
  const Ends ends = ends_of(event, names);
  View view;
  view.json = maps::to_json(maps::decode(event));
  view.json["meaning"] = sentence(event.reason);
  view.json["source_name"] = ends.source;
  view.json["destination_name"] = ends.destination;
  view.json["source_identity_text"] = names.identity(event.src_identity);
  view.json["destination_identity_text"] = names.identity(event.dst_identity);
  view.json["rule_text"] = names.rule(event.rule);
  view.json["service_name"] = names.service(event.service);
  if (policy) view.json["policy"] = policy->why.json;

  view.text = fmt::format("{} {} {} {}", time_text(event.time_ns), maps::hook_label(event.hook),
                          what_happened(event), maps::key_text(event.key));
  const auto append = [&](std::string_view what, const std::string& name) {
    if (!name.empty()) view.text += fmt::format(", {} {}", what, name);
  };
  append("from", ends.source);
  append("to", ends.destination);
  append("service", names.service(event.service));
  if (policy && policy->answer) view.text += ", an answer";
  if (policy) {
    const bool audited = (event.flags & EVENT_AUDITED) != 0;
    view.text += (audited ? ": would be dropped: " : ": ") + policy_text(*policy, names);
  } else if (event.verdict == VERDICT_DROP) {
    // The rule of a packet that something else refused is the one that policy let it pass by.
    append("allowed by", names.rule(event.rule));
    view.text += ": " + sentence(event.reason);
  }
  view.text += "\n";
  return view;
}

}  // namespace bpfnet::observe
