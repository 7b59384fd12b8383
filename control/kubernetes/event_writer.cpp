#include "control/kubernetes/event_writer.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "control/sources/decode.h"

namespace bpfnet::kubernetes {
namespace {

using nlohmann::json;

constexpr size_t kLongestMessage = 1024;  // the server takes no longer ones
constexpr size_t kLongestEvent = 1 << 20;
constexpr size_t kLongestName = 253;

std::string now_text() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

/// The same on every node and in every version.
uint64_t fnv(std::string_view text, uint64_t hash = 0xcbf29ce484222325ULL) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

EventWriter::EventWriter(http::Client& client, std::string server, std::string node_name, Limits limits,
                         UidOf uid_of)
    : client_(client),
      server_(std::move(server)),
      node_name_(std::move(node_name)),
      limits_(limits),
      uid_of_(std::move(uid_of)),
      tokens_(static_cast<double>(limits.burst)) {}

// An object that is made anew under its old name is another one.
std::string EventWriter::name_of(const sources::Notice& notice, const std::string& uid) {
  const std::string what =
      fmt::format("{}\n{}\n{}\n{}", sources::to_string(notice.kind), uid, notice.reason, notice.text);
  const std::string end = fmt::format(".{:016x}", fnv(what));
  std::string begin(notice.object.name.view().substr(0, kLongestName - end.size()));
  while (begin.ends_with('.') || begin.ends_with('-')) begin.pop_back();  // no label of a name ends so
  return begin + end;
}

// Events about objects without a namespace stand in `default`, where kubectl describe looks for them.
std::string EventWriter::path_of(const sources::Notice& notice) const {
  const std::string ns = notice.object.ns;
  return fmt::format("{}/api/v1/namespaces/{}/events", server_, http::encode(ns.empty() ? "default" : ns));
}

void EventWriter::write(const sources::Notice& notice) {
  Event event{.notice = notice, .uid = uid_of_ ? uid_of_(notice) : "", .name = {}};
  event.name = name_of(notice, event.uid);
  const std::string key = event.key();
  const auto now = Clock::now();
  if (const auto told = told_.find(key); told != told_.end() && now - told->second.when < limits_.renew)
    return;
  if (waiting_.size() >= limits_.waiting) {
    ++given_up_;
    return;
  }
  // What has not been said for long is no news that could come again.
  if (told_.size() > 4 * limits_.waiting)
    std::erase_if(told_, [&](const auto& entry) { return now - entry.second.when > limits_.renew; });
  told_[key].when = now;
  waiting_.push_back(std::move(event));
  next();
}

bool EventWriter::take_token() {
  const auto now = Clock::now();
  const std::chrono::duration<double, std::milli> passed = now - refilled_;
  tokens_ = std::min(static_cast<double>(limits_.burst), tokens_ + passed / limits_.refill);
  refilled_ = now;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

void EventWriter::next() {
  if (busy_ || waiting_.empty()) return;
  busy_ = true;
  if (!take_token()) {
    client_.after(limits_.refill, [this] {
      busy_ = false;
      next();
    });
    return;
  }
  const Event event = std::move(waiting_.front());
  waiting_.pop_front();
  post(event);
}

void EventWriter::post(const Event& event) {
  const sources::Notice& notice = event.notice;
  const std::string time = now_text();
  const std::string ns = notice.object.ns;
  json about = {{"kind", sources::to_string(notice.kind)},
                {"apiVersion", sources::api_version(notice.kind)},
                {"name", notice.object.name}};
  if (!ns.empty()) about["namespace"] = ns;
  if (!event.uid.empty()) about["uid"] = event.uid;
  const json object = {{"kind", "Event"},
                       {"apiVersion", "v1"},
                       {"metadata", {{"name", event.name}, {"namespace", ns.empty() ? "default" : ns}}},
                       {"involvedObject", about},
                       {"type", "Warning"},
                       {"reason", notice.reason},
                       {"message", notice.text.substr(0, kLongestMessage)},
                       {"count", 1},
                       {"firstTimestamp", time},
                       {"lastTimestamp", time},
                       {"source", {{"component", "bpfnet"}, {"host", node_name_}}},
                       {"reportingComponent", "bpfnet"},
                       {"reportingInstance", node_name_}};
  client_.ask({.method = "POST",
               .url = path_of(notice),
               .headers = {{"Content-Type", "application/json"}},
               .body = object.dump(-1, ' ', false, json::error_handler_t::replace),
               .deadline = std::chrono::seconds(15)},
              kLongestEvent, [this, event](const Result<http::Reply>& reply) {
                if (reply && reply->head.status == 409) return renew(event);
                if (reply && reply->head.status / 100 == 2) {
                  ++written_;
                } else {
                  ++given_up_;
                  told_.erase(event.key());
                }
                busy_ = false;
                next();
              });
}

// It is there: from this node half an hour ago, or from another one a moment ago.
void EventWriter::renew(const Event& event) {
  Told& told = told_[event.key()];
  const json change = {{"count", ++told.count + 1}, {"lastTimestamp", now_text()}};
  client_.ask({.method = "PATCH",
               .url = path_of(event.notice) + "/" + http::encode(event.name),
               .headers = {{"Content-Type", "application/merge-patch+json"}},
               .body = change.dump(),
               .deadline = std::chrono::seconds(15)},
              kLongestEvent, [this](const Result<http::Reply>& reply) {
                ++(reply && reply->head.status / 100 == 2 ? written_ : given_up_);
                busy_ = false;
                next();
              });
}

}  // namespace bpfnet::kubernetes
