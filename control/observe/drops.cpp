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
Ends ends_of(const packet_event& event, const Names& names, bool answer) {
  const bool translated = !maps::from_abi(event.backend).is_unspecified();
  const addr& client = answer ? event.key.daddr : event.key.saddr;
  const addr& server = answer ? event.key.saddr : translated ? event.backend : event.key.daddr;
  Ends ends{name_of(event.src_endpoint, client, event.src_identity, names),
            name_of(event.dst_endpoint, server, event.dst_identity, names)};
  if (answer) std::swap(ends.source, ends.destination);
  return ends;
}

/// `ingress of default/web: isolated by ...`
std::string policy_text(const PolicyEvent& policy, const Names& names) {
  return fmt::format(
      "{} of {}: {}{}", compile::to_string(policy.question.direction), names.endpoint(policy.endpoint),
      policy.why.text,
      policy.midstream ? " (as its beginning was not seen, either end may have begun it)" : "");
}

}  // namespace

Result<View> drops_view(const maps::Maps& maps) {
  auto counts = maps.drop_counts.sums();
  if (!counts) return pass(counts);
  View view;
  view.json = nlohmann::ordered_json::array();
  Table table({"HOOK", "REASON", "PACKETS", "BYTES", "MEANING"});
  for (uint32_t i = 0; i < counts->size(); ++i) {
    const packet_count& count = (*counts)[i];
    if (count.packets == 0) continue;
    const std::string hook = maps::hook_label(i / DROP_REASONS_MAX);
    const std::string reason = maps::drop_reason_label(i % DROP_REASONS_MAX);
    const std::string meaning = sentence(i % DROP_REASONS_MAX);
    table.add({hook, reason, std::to_string(count.packets), std::to_string(count.bytes), meaning});
    view.json.push_back({{"hook", hook},
                         {"reason", reason},
                         {"packets", count.packets},
                         {"bytes", count.bytes},
                         {"meaning", meaning}});
  }
  view.text = table.empty() ? "nothing was dropped\n" : table.text();
  return view;
}

View event_view(const packet_event& event, const Names& names, LiveSets* sets) {
  const auto policy = explain_event(event, names, sets);
  const bool answer = policy && policy->answer;
  const Ends ends = ends_of(event, names, answer);
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
                          event.verdict == VERDICT_DROP ? maps::drop_reason_label(event.reason)
                                                        : maps::verdict_label(event.verdict),
                          maps::key_text(event.key));
  const auto append = [&](std::string_view what, const std::string& name) {
    if (!name.empty()) view.text += fmt::format(", {} {}", what, name);
  };
  append("from", ends.source);
  append("to", ends.destination);
  append("service", names.service(event.service));
  if (answer) view.text += ", an answer";
  if (policy) {
    view.text += ": " + policy_text(*policy, names);
  } else if (event.verdict == VERDICT_DROP) {
    // The rule of a packet that something else refused is the one that policy let it pass by.
    append("allowed by", names.rule(event.rule));
    view.text += ": " + sentence(event.reason);
  }
  view.text += "\n";
  return view;
}

}  // namespace bpfnet::observe
