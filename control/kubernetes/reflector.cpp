#include "control/kubernetes/reflector.h"

#include <fmt/format.h>

namespace bpfnet::kubernetes {
namespace {

using std::chrono::milliseconds;

constexpr size_t kLongestError = 64 << 10;

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
      backoff_(config_.seed, config_.times.first_wait),
      random_(config_.seed + 1),
      path_(config_.resource.path),
      heard_(http::Client::Clock::now()) {
  status_.kind = config_.resource.plural;
  status_.state = "connecting";
}

void Reflector::start() {
  tell_status();
  begin();
}

void Reflector::begin() {
  unreached_ = false;
  if (!version_.empty() && !relist_due_) return begin_watch(false);
  if (watch_list_ && !plain_) return watch_initial();
  begin_list();
}

void Reflector::reconnect(const std::string& trouble) {
  if (request_ == 0) return;  // it waits, and will start on a new one
  stop_request();
  ++status_.failures;
  if (!trouble.empty()) lost(fmt::format("waiting: {}{}", kNotReached, trouble));
  begin();
}

void Reflector::lost(std::string state) {
  was_away_ = true;
  status_.state = std::move(state);
  status_.current = false;
  tell_status();
}

void Reflector::server_is_back() {
  if (!std::exchange(unreached_, false)) return;
  client_.cancel(timer_);
  wait_for(milliseconds(std::uniform_int_distribution<int>(0, 200)(random_)));
}

http::Request Reflector::request(const std::string& query) const {
  std::string url = config_.server + std::string(path_) + "?" + query;
  if (!config_.resource.label_selector.empty())
    url += "&labelSelector=" + http::encode(config_.resource.label_selector);
  if (!config_.resource.field_selector.empty() && field_selector_)
    url += "&fieldSelector=" + http::encode(config_.resource.field_selector);
  return {.url = std::move(url), .headers = {{"Accept", "application/json"}}};
}

// ---- what is told

void Reflector::take_object(ReadObject object) {
  const auto [known, fresh] = known_.try_emplace(object.name);
  const uint64_t hash = hash_of(object.version);
  if (!fresh && known->second.version == hash && !object.version.empty()) return;  // as it was (K16)
  known->second = {hash, object.uid};
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
  if (known_.erase(name) == 0) return;
  ++status_.events;
  queue_.put({.what = Delivery::What::kGone,
              .kind = config_.resource.kind,
              .name = name,
              .decoded = {},
              .version = version});
}

std::string Reflector::uid_of(const model::ObjectName& name) const {
  const auto known = known_.find(name);
  return known == known_.end() ? "" : to_string(known->second.uid);
}

bool Reflector::see(const model::ObjectName& name) {
  return seen_.insert(name).second;
}

void Reflector::unsee(const model::ObjectName& name) {
  seen_.erase(name);
}

void Reflector::forget_unseen() {
  for (auto known = known_.begin(); known != known_.end();) {
    if (seen_.contains(known->first)) {
      ++known;
      continue;
    }
    queue_.put({.what = Delivery::What::kGone,
                .kind = config_.resource.kind,
                .name = known->first,
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
  relist_due_ = plain_ = false;
  watch_lists_failed_ = 0;
  tell_status();
  queue_.put({.what = Delivery::What::kSynced,
              .kind = config_.resource.kind,
              .name = {},
              .decoded = {},
              .version = version_});
}

// ---- both

void Reflector::prepare() {
  trouble_.clear();
  error_body_.clear();
  head_ = {};
  expired_ = not_understood_ = false;
  begun_ = told_ = http::Client::Clock::now();
}

bool Reflector::keep_error(std::string_view data) {
  error_body_.append(data.substr(0, kLongestError - std::min(kLongestError, error_body_.size())));
  return true;
}

void Reflector::take_head(const http::Head& head) {
  head_ = head;
  heard_ = std::max(heard_, begun_);
  if (head.status != 200 || (!head.content_type.empty() && head.content_type != "application/json")) return;
  gone_since_.reset();
  status_.state = list_ || initial_ ? "listing" : "watched";
  status_.current = !list_ && !initial_;
  tell_status();
  // A watch may have nothing to say for long; of a list its end must show that the server can.
  if (frames_ && !initial_) reached();
}

// An answer shows that the question arrived, and what a watch tells that it heard of what it had told before.
// The last thing told shows nothing: where only our packets are lost a server goes on until its TCP waits for
// us.
void Reflector::hear() {
  const auto now = http::Client::Clock::now();
  if (now - told_ < config_.times.acknowledged) return;
  heard_ = std::max(heard_, std::exchange(told_, now));
}

void Reflector::reached() {
  if (std::exchange(was_away_, false) && on_reached) on_reached();
}

void Reflector::wait_for(milliseconds time) {
  timer_ = client_.after(time, [this] { begin(); });
}

void Reflector::stop_request() {
  client_.cancel(request_);
  client_.cancel(progress_timer_);
  request_ = 0;
}

void Reflector::tell_status() {
  status_.objects = known_.size();
  queue_.set_status(config_.resource.kind, status_);
}

}  // namespace bpfnet::kubernetes
