#include "control/kubernetes/reflector.h"

#include <fmt/format.h>

namespace bpfnet::kubernetes {
namespace {

using http::Failure;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kPageSize = 500;
constexpr size_t kLongestError = 64 << 10;
/// A watch that is over sooner than this without a word was no watch (K5).
constexpr seconds kShortestWatch{1};
/// The server ends a watch at its timeoutSeconds; one that does not is dead.
constexpr seconds kWatchGrace{15};
/// After so many failures at one version something else is wrong with it.
constexpr int kErrorsUntilRelist = 5;

std::string key_of(const model::ObjectName& name) {
  return name.ns + "/" + name.name;
}

model::ObjectName name_of(const std::string& key) {
  const size_t slash = key.find('/');
  return {key.substr(0, slash), key.substr(slash + 1)};
}

/// Versions are opaque: equal or not is all that counts.
uint64_t hash_of(const std::string& version) {
  return std::hash<std::string>{}(version);
}

}  // namespace

Reflector::Reflector(http::Client& client, DeliveryQueue& queue, Config config,
                     std::function<void(const sources::Value&)> see)
    : client_(client),
      queue_(queue),
      config_(std::move(config)),
      reader_(config_.resource, config_.node_name, std::move(see)),
      backoff_(config_.seed),
      random_(config_.seed + 1),
      heard_(http::Client::Clock::now()) {
  status_.kind = config_.resource.plural;
  status_.state = "connecting";
}

void Reflector::start() {
  tell_status();
  begin();
}

void Reflector::begin() {
  wait_ = Wait::kNone;
  if (!version_.empty() && !relist_due_) return begin_watch(false);
  list_version_ = version_.empty() ? "0" : version_;
  if (watch_list_) return watch_initial();
  begin_list();
}

void Reflector::reconnect() {
  if (request_ == 0) return;  // it waits, and will start on a new one
  stop_request();
  ++status_.failures;
  begin();
}

void Reflector::server_is_back() {
  if (wait_ != Wait::kUnreached) return;
  client_.cancel(timer_);
  wait_for(milliseconds(std::uniform_int_distribution<int>(0, 200)(random_)));
}

http::Request Reflector::request(const std::string& query) const {
  std::string url = config_.server + std::string(config_.resource.path) + "?" + query;
  if (!config_.resource.label_selector.empty())
    url += "&labelSelector=" + http::encode(config_.resource.label_selector);
  if (!config_.resource.field_selector.empty())
    url += "&fieldSelector=" + http::encode(config_.resource.field_selector);
  return {.url = std::move(url), .headers = {{"Accept", "application/json"}}};
}

// ---- lists

void Reflector::begin_list() {
  relist_due_ = false;
  seen_.clear();
  send_page({});
}

void Reflector::send_page(const std::string& more) {
  std::string query = fmt::format("limit={}", kPageSize);
  if (!more.empty()) {
    query += "&continue=" + http::encode(more);  // the token carries the version
  } else if (!list_version_.empty()) {
    query += "&resourceVersion=" + http::encode(list_version_);
  }
  http::Request page = request(query);
  page.stall = config_.times.stall;
  initial_ = false;
  list_.emplace();
  frames_.reset();
  trouble_.clear();
  error_body_.clear();
  head_ = {};
  request_ = client_.send(std::move(page),
                          {.head = [this](const http::Head& head) { take_head(head); },
                           .data =
                               [this](std::string_view data) {
                                 heard_ = http::Client::Clock::now();
                                 if (head_.status != 200) return keep_error(data);
                                 const Status fed = list_->feed(
                                     data, [this](std::string_view json) { return take_item(json); });
                                 if (!fed) trouble_ = fed.error().message;
                                 return trouble_.empty();
                               },
                           .done = [this](const http::Outcome& outcome) { end_page(outcome); }});
}

bool Reflector::take_item(std::string_view json) {
  auto object = reader_.read(json);
  if (!object) {
    trouble_ = object.error().message;
    return false;
  }
  seen_.insert(key_of(object->name));
  take_object(std::move(*object));
  return true;
}

void Reflector::end_page(const http::Outcome& outcome) {
  request_ = 0;
  if (outcome.failure != Failure::kNone || head_.status != 200) return fail_with(outcome);
  const std::string_view rest = list_->rest();
  if (rest.empty()) return retry("the list ends in its middle", Wait::kUnreached);
  const auto end = reader_.read_list_end(rest);
  if (!end) return retry(end.error().message, Wait::kUnreached);
  if (!end->more.empty()) return send_page(end->more);
  end_list(end->version);
}

void Reflector::end_list(const std::string& version) {
  version_ = version;
  forget_unseen();
  synced();
  begin_watch(false);
}

void Reflector::forget_unseen() {
  for (auto known = known_.begin(); known != known_.end();) {
    if (seen_.contains(known->first)) {
      ++known;
      continue;
    }
    queue_.put({.what = Delivery::What::kGone,
                .kind = config_.resource.kind,
                .name = name_of(known->first),
                .decoded = {},
                .version = {}});
    ++status_.events;
    known = known_.erase(known);
  }
  seen_ = {};
}

void Reflector::synced() {
  status_.relists += status_.synced ? 1 : 0;
  status_.synced = true;
  tell_status();
  queue_.put({.what = Delivery::What::kSynced,
              .kind = config_.resource.kind,
              .name = {},
              .decoded = {},
              .version = version_});
}

// ---- watches

void Reflector::watch_initial() {
  relist_due_ = false;
  seen_.clear();
  begin_watch(true);
}

void Reflector::begin_watch(bool initial) {
  const auto timeout = seconds(std::uniform_int_distribution<int64_t>(
      config_.times.watch_min.count(), config_.times.watch_max.count())(random_));
  std::string query = fmt::format("watch=true&allowWatchBookmarks=true&timeoutSeconds={}", timeout.count());
  // A WatchList asks for a state that is not older than what was seen; at first for the newest.
  const std::string version = !initial ? version_ : list_version_ == "0" ? "" : list_version_;
  if (initial) query += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
  query += "&resourceVersion=" + http::encode(version);
  http::Request watch = request(query);
  watch.deadline = timeout + kWatchGrace;
  initial_ = initial;
  frames_.emplace();
  list_.reset();
  trouble_.clear();
  error_body_.clear();
  head_ = {};
  frames_taken_ = 0;
  begun_ = http::Client::Clock::now();
  request_ = client_.send(std::move(watch),
                          {.head = [this](const http::Head& head) { take_head(head); },
                           .data =
                               [this](std::string_view data) {
                                 heard_ = http::Client::Clock::now();
                                 if (head_.status != 200) return keep_error(data);
                                 const Status fed = frames_->feed(
                                     data, [this](std::string_view json) { return take_frame(json); });
                                 if (!fed) trouble_ = fed.error().message;
                                 return trouble_.empty() && !relist_due_;
                               },
                           .done = [this](const http::Outcome& outcome) { end_watch(outcome); }});
  if (initial) initial_timer_ = client_.after(config_.times.initial, [this] { check_initial(); });
}

// A server that does not know the parameter begins an ordinary watch, and says nothing of an end.
void Reflector::check_initial() {
  if (!initial_ || request_ == 0) return;
  if (http::Client::Clock::now() - std::max(heard_, begun_) < config_.times.initial) {
    initial_timer_ = client_.after(config_.times.initial, [this] { check_initial(); });
    return;
  }
  stop_request();
  watch_list_ = false;
  begin();
}

bool Reflector::keep_error(std::string_view data) {
  error_body_.append(data.substr(0, kLongestError - std::min(kLongestError, error_body_.size())));
  return true;
}

void Reflector::take_head(const http::Head& head) {
  head_ = head;
  heard_ = http::Client::Clock::now();
  if (head.status != 200) return;
  const bool was_away = status_.state.starts_with("waiting");
  status_.state = list_ || initial_ ? "listing" : "watched";
  status_.current = !list_ && !initial_;
  tell_status();
  if (was_away && on_reached) on_reached();
}

bool Reflector::take_frame(std::string_view json) {
  auto event = reader_.read_event(json);
  if (!event) {
    trouble_ = event.error().message;
    return false;
  }
  ++frames_taken_;
  using enum WatchEvent::Type;
  switch (event->type) {
    case kError:
      trouble_ = fmt::format("the watch was ended with {}: {}", event->code, event->message);
      relist_due_ = event->code == 410;
      return false;
    case kUnknown:
      return true;
    case kBookmark:
      if (!event->object.version.empty() && (!initial_ || event->object.initial_end))
        version_ = event->object.version;
      if (initial_ && event->object.initial_end) {
        initial_ = false;
        client_.cancel(initial_timer_);
        forget_unseen();
        status_.state = "watched";
        status_.current = true;
        synced();
      } else if (!initial_) {
        queue_.put({.what = Delivery::What::kVersion,
                    .kind = config_.resource.kind,
                    .name = {},
                    .decoded = {},
                    .version = version_});
      }
      return true;
    case kDeleted:
      seen_.erase(key_of(event->object.name));
      if (!initial_) version_ = event->object.version;
      take_gone(event->object.name, initial_ ? std::string() : version_);
      break;
    case kAdded:
    case kModified:
      if (initial_) seen_.insert(key_of(event->object.name));
      if (!initial_) version_ = event->object.version;
      take_object(std::move(event->object));
      break;
  }
  errors_in_a_row_ = 0;
  if (!initial_) expired_in_a_row_ = 0;
  return true;
}

void Reflector::take_object(ReadObject object) {
  const std::string key = key_of(object.name);
  const auto [known, fresh] = known_.try_emplace(key, 0);
  const uint64_t hash = hash_of(object.version);
  if (!fresh && known->second == hash && !object.version.empty()) return;  // as it was (K16)
  known->second = hash;
  put_object(std::move(object));
}

void Reflector::put_object(ReadObject object) {
  ++status_.events;
  const bool gone = object.decoded.objects.empty() && object.decoded.problems.empty();  // left out on purpose
  queue_.put({.what = gone ? Delivery::What::kGone : Delivery::What::kObject,
              .kind = config_.resource.kind,
              .name = std::move(object.name),
              .decoded = std::move(object.decoded),
              .version = list_ || initial_ ? std::string() : version_});
}

void Reflector::take_gone(const model::ObjectName& name, const std::string& version) {
  if (known_.erase(key_of(name)) == 0) return;
  ++status_.events;
  queue_.put({.what = Delivery::What::kGone,
              .kind = config_.resource.kind,
              .name = name,
              .decoded = {},
              .version = version});
}

void Reflector::end_watch(const http::Outcome& outcome) {
  request_ = 0;
  client_.cancel(initial_timer_);
  if (relist_due_) return expired();
  if (outcome.failure != Failure::kNone || head_.status != 200) return fail_with(outcome);
  const bool short_lived = frames_taken_ == 0 && http::Client::Clock::now() - begun_ < kShortestWatch;
  if (short_lived) return retry("the watch is closed at once", Wait::kAsked);
  expired_in_a_row_ = 0;
  if (initial_) return retry("the list is closed in its middle", Wait::kUnreached);
  begin_watch(false);
}

// ---- both

// Once more at once, from the last version, then from any (K1); if that is too old too, only waiting helps.
void Reflector::expired() {
  relist_due_ = true;
  const bool listed = list_.has_value() || initial_;
  if (++expired_in_a_row_ > 2 || (listed && list_version_.empty()))
    return retry("the server forgets faster than it tells", Wait::kAsked);
  list_version_ = listed ? "" : version_;
  status_.state = "listing";
  status_.current = false;
  tell_status();
  if (watch_list_) return watch_initial();
  begin_list();
}

void Reflector::fail_with(const http::Outcome& outcome) {
  if (!trouble_.empty()) return retry(trouble_, Wait::kUnreached);
  if (outcome.failure != Failure::kNone) {
    // A watch that the server lets live on beyond its time is started again, nothing is lost.
    if (outcome.failure == Failure::kTimeout && frames_ && !initial_ && outcome.status == 200) {
      ++status_.failures;
      return begin_watch(false);
    }
    return retry(fmt::format("{}{}", kNotReached, outcome.message), Wait::kUnreached);
  }
  refused(head_.status);
}

void Reflector::refused(int status) {
  const auto told = read_status(error_body_);
  const std::string message =
      told && !told->message.empty() ? told->message : fmt::format("HTTP status {}", status);
  const bool too_large = message.find("oo large resource version") != std::string::npos;
  if (status == 410 || too_large) return expired();
  if (initial_ && (status == 422 || status == 400 || status == 404 || status == 405)) {
    watch_list_ = false;  // K7; whatever else is wrong the list will say
    return begin();
  }
  if (status == 404 && config_.resource.optional && known_.empty()) {
    // K18. With objects known it is some proxy that does not know better: a policy is not given up for that.
    status_.state = "off: the server does not know this kind";
    status_.current = true;
    version_.clear();
    watch_list_ = true;
    seen_.clear();
    if (!status_.synced) {
      synced();
    } else {
      tell_status();
    }
    return wait_for(config_.times.missing);
  }
  std::optional<milliseconds> asked;
  if (head_.retry_after) asked = *head_.retry_after;
  const bool ours = status == 401 || status == 403;
  retry(fmt::format("{}{}", message,
                    status == 401   ? ": token or certificate are not accepted"
                    : status == 403 ? ": deploy the ClusterRole that docs/kubernetes.md lists"
                                    : ""),
        ours || status == 429 ? Wait::kAsked : Wait::kUnreached, asked);
}

void Reflector::retry(std::string why, Wait wait, std::optional<milliseconds> asked) {
  ++status_.failures;
  // What the version says is not to be had again and again: from the beginning.
  if (++errors_in_a_row_ >= kErrorsUntilRelist && head_.status == 200 && !version_.empty()) {
    errors_in_a_row_ = 0;
    relist_due_ = true;
  }
  status_.state = "waiting: " + std::move(why);
  status_.current = false;
  tell_status();
  wait_ = wait;
  wait_for(backoff_.next(Backoff::Clock::now(), asked));
}

void Reflector::wait_for(milliseconds time) {
  timer_ = client_.after(time, [this] { begin(); });
}

void Reflector::stop_request() {
  client_.cancel(request_);
  client_.cancel(initial_timer_);
  request_ = 0;
}

void Reflector::tell_status() {
  status_.objects = known_.size();
  queue_.set_status(config_.resource.kind, status_);
}

}  // namespace bpfnet::kubernetes
