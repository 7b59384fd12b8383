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
constexpr size_t kLongestAnswer = 1 << 20;

std::string now_text() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

/// The same on every node and in every version.
uint64_t fnv(std::string_view text, uint64_t hash = 0xcbf29ce484222325ULL) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

EventWriter::EventWriter(http::Client& client, std::string server, std::string node_name, Limits limits)
    : client_(client),
      server_(std::move(server)),
      node_name_(std::move(node_name)),
      limits_(limits),
      tokens_(static_cast<double>(limits.burst)) {}

std::string EventWriter::name_of(const sources::Notice& notice) const {
  const std::string what =
      fmt::format("{}\n{}\n{}", sources::to_string(notice.kind), notice.reason, notice.text);
  return fmt::format("{}.{:016x}", notice.object.name, fnv(what));
}

// Events about objects without a namespace stand in `default`, where kubectl describe looks for them.
std::string EventWriter::path_of(const sources::Notice& notice) const {
  const std::string& ns = notice.object.ns;
  return fmt::format("{}/api/v1/namespaces/{}/events", server_, http::encode(ns.empty() ? "default" : ns));
}

void EventWriter::write(const sources::Notice& notice) {
  const std::string key = notice.object.ns + "/" + name_of(notice);
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
  waiting_.push_back(notice);
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
  const sources::Notice notice = std::move(waiting_.front());
  waiting_.pop_front();
  post(notice);
}

void EventWriter::post(const sources::Notice& notice) {
  const std::string name = name_of(notice);
  const std::string time = now_text();
  const std::string& ns = notice.object.ns;
  json about = {{"kind", sources::to_string(notice.kind)},
                {"apiVersion", sources::api_version(notice.kind)},
                {"name", notice.object.name}};
  if (!ns.empty()) about["namespace"] = ns;
  const json event = {{"kind", "Event"},
                      {"apiVersion", "v1"},
                      {"metadata", {{"name", name}, {"namespace", ns.empty() ? "default" : ns}}},
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
               .body = event.dump(-1, ' ', false, json::error_handler_t::replace),
               .deadline = std::chrono::seconds(15)},
              kLongestAnswer, [this, notice, name](const Result<http::Reply>& reply) {
                if (reply && reply->head.status == 409) return renew(notice, name);
                if (reply && reply->head.status / 100 == 2) {
                  ++written_;
                } else {
                  ++given_up_;
                  told_.erase(notice.object.ns + "/" + name);
                }
                busy_ = false;
                next();
              });
}

// It is there: from this node half an hour ago, or from another one a moment ago.
void EventWriter::renew(const sources::Notice& notice, const std::string& name) {
  Told& told = told_[notice.object.ns + "/" + name];
  const json change = {{"count", ++told.count + 1}, {"lastTimestamp", now_text()}};
  client_.ask({.method = "PATCH",
               .url = path_of(notice) + "/" + http::encode(name),
               .headers = {{"Content-Type", "application/merge-patch+json"}},
               .body = change.dump(),
               .deadline = std::chrono::seconds(15)},
              kLongestAnswer, [this](const Result<http::Reply>& reply) {
                ++(reply && reply->head.status / 100 == 2 ? written_ : given_up_);
                busy_ = false;
                next();
              });
}

}  // namespace bpfnet::kubernetes
