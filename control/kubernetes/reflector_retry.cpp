// What follows when an answer is not the wanted one.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "control/kubernetes/discovery.h"
#include "control/kubernetes/reflector.h"

namespace bpfnet::kubernetes {
namespace {

using http::Failure;
using Clock = http::Client::Clock;

/// After so many failures at one version something else is wrong with it.
constexpr int kErrorsUntilRelist = 5;
/// After so many WatchLists in a row that did not come to their end a list does.
constexpr int kWatchListsUntilList = 3;
constexpr size_t kLargestDiscovery = size_t{8} << 20;

/// `networking.k8s.io/v1` of `/apis/networking.k8s.io/v1/networkpolicies`.
std::string_view group_version(std::string_view path) {
  path.remove_prefix(std::string_view("/apis/").size());
  return path.substr(0, path.rfind('/'));
}

}  // namespace

bool Reflector::is_expired(int code, std::string_view message) {
  // A server that is behind us, or was restored from a backup (K1).
  return code == 410 || message.find("oo large resource version") != std::string_view::npos;
}

// K1: once from the version that was seen, once from the newest; if that is too old too, only waiting helps.
void Reflector::expired() {
  const bool listed = list_.has_value() || initial_;
  const bool newest_failed = expired_in_a_row_ >= 2;
  relist_due_ = true;
  expired_in_a_row_ = listed || expired_in_a_row_ > 0 ? 2 : 1;
  list_version_ = expired_in_a_row_ == 1 ? version_ : "";
  if (newest_failed) return retry("the server forgets faster than it tells");
  status_.state = "listing";
  status_.current = false;
  tell_status();
  begin();
}

void Reflector::fail_with(const http::Outcome& outcome) {
  if (!trouble_.empty()) return retry(trouble_);
  if (outcome.failure == Failure::kNone) return refused(head_.status);
  // A watch that the server lets live on beyond its time is started again, nothing is lost.
  const bool watched = frames_ && !initial_ && outcome.status == 200;
  if (watched && outcome.failure == Failure::kTimeout) {
    ++status_.failures;
    return begin_watch(false);
  }
  // One that is cut too: load balancers do that to what is silent for a while. Whether the server is there
  // the next one shows.
  if (watched && outcome.failure == Failure::kBroken && Clock::now() - begun_ >= kShortestWatch) {
    ++status_.failures;
    lost("connecting");
    return begin_watch(false);
  }
  retry(fmt::format("{}{}", kNotReached, outcome.message));
}

void Reflector::refused(int status) {
  const auto told = read_status(error_body_);
  const std::string message =
      told && !told->message.empty() ? told->message : fmt::format("HTTP status {}", status);
  if (is_expired(status, message)) return expired();
  if (initial_ && (status == 422 || status == 400 || status == 405)) {
    plain_ = true;  // K7; whatever else is wrong the list will say
    return begin();
  }
  if (status == 400 && !config_.resource.field_selector.empty() && std::exchange(field_selector_, false))
    return begin();  // servers before 1.31 select Services by nothing but their names
  if (status == 404 && config_.resource.optional) {
    if (known_.empty()) return off();
    return ask_whether_gone(message);
  }
  if (status == 404 && !config_.resource.older_path.empty()) return choose_path(message);
  retry(fmt::format("{}{}", message,
                    status == 401   ? ": token or certificate are not accepted"
                    : status == 403 ? ": deploy the ClusterRole that docs/kubernetes.md lists"
                                    : ""),
        head_.retry_after);
}

// K18
void Reflector::off() {
  seen_.clear();
  forget_unseen();
  status_.state = "off: the server does not know this kind";
  status_.current = true;
  version_.clear();
  list_version_ = "0";
  relist_due_ = plain_ = false;
  watch_lists_failed_ = 0;
  gone_since_.reset();
  if (!status_.synced) {
    synced();
  } else {
    tell_status();
  }
  wait_for(config_.times.missing);
}

// The newest version of the group that the server says it serves: one that is replaced by another release may
// have one or the other. What was told by one counts in the other, versions of objects included.
void Reflector::choose_path(const std::string& why) {
  ask_discovery("/apis", [this, why](const std::string& body) {
    for (const std::string_view path : {config_.resource.path, config_.resource.older_path}) {
      if (serves_group(body, group_version(path)) != Served::kYes) continue;
      if (path == path_) break;
      path_ = path;
      spdlog::info("API server {}: {} are read from {}", config_.server, config_.resource.plural, path_);
      return begin();
    }
    retry(why);
  });
}

// Policies are not given up because some proxy says 404. Whether there is no such kind any more is known to
// who lists what there is; and it must say so twice, for a server that starts does not know all at once.
void Reflector::ask_whether_gone(const std::string& why) {
  ask_discovery("/apis", [this, why](const std::string& body) {
    const std::string_view version = group_version(path_);
    const Served group = serves_group(body, version);
    if (group != Served::kYes) return take_served(group, why);
    ask_discovery("/apis/" + std::string(version), [this, why](const std::string& inner) {
      take_served(serves_kind(inner, config_.resource.plural), why);
    });
  });
}

void Reflector::ask_discovery(const std::string& path, std::function<void(const std::string&)> take) {
  request_ = client_.ask({.url = config_.server + path,
                          .headers = {{"Accept", "application/json"}},
                          .deadline = std::chrono::seconds(15)},
                         kLargestDiscovery, [this, take = std::move(take)](const Result<http::Reply>& reply) {
                           request_ = 0;
                           take(reply && reply->head.status == 200 ? reply->body : std::string());
                         });
}

void Reflector::take_served(Served served, const std::string& why) {
  if (served != Served::kNo) {
    gone_since_.reset();
    return retry(why);
  }
  const auto now = Clock::now();
  if (!gone_since_) gone_since_ = now;
  if (now - *gone_since_ >= config_.times.missing) return off();
  retry(fmt::format("{}; the server has no such kind any more, it is asked once again", why));
}

void Reflector::retry(const std::string& why, std::optional<std::chrono::seconds> asked) {
  const int answered = head_.status;
  ++status_.failures;
  // What the version says is not to be had again and again: a list.
  if (answered == 200 && ++errors_in_a_row_ >= kErrorsUntilRelist && !version_.empty() && !relist_due_) {
    errors_in_a_row_ = 0;
    relist_due_ = true;
    list_version_ = version_;
  }
  const bool not_now = answered == 0 || answered == 401 || answered == 403 || answered == 429 || asked;
  if (initial_ && !not_now && ++watch_lists_failed_ >= kWatchListsUntilList) plain_ = true;
  lost("waiting: " + why);
  // Who was answered must not be woken by another kind, or kinds would wake each other for ever (K6).
  unreached_ = answered == 0 && !asked;
  wait_for(backoff_.next(http::Backoff::Clock::now(), asked));
}

}  // namespace bpfnet::kubernetes
