// Watches (K2, K3), and WatchList: a list that is told as the beginning of a watch (K7).
#include <fmt/format.h>

#include "control/kubernetes/reflector.h"

namespace bpfnet::kubernetes {
namespace {

using http::Failure;
using std::chrono::seconds;
using Clock = http::Client::Clock;

/// The server ends a watch at its timeoutSeconds; one that does not is dead.
constexpr seconds kWatchGrace{15};
/// A server may tell new objects for ever and never say that these are all.
constexpr int kLongestInitial = 5;  // times Times::initial

}  // namespace

void Reflector::watch_initial() {
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
  prepare();
  frames_taken_ = 0;
  progress_ = begun_;
  request_ = client_.send(std::move(watch),
                          {.head = [this](const http::Head& head) { take_head(head); },
                           .data =
                               [this](std::string_view data) {
                                 hear();
                                 if (head_.status != 200) return keep_error(data);
                                 bool more = true;
                                 const Status fed = frames_->feed(
                                     data, [&](std::string_view json) { return more = take_frame(json); });
                                 if (!fed) trouble_ = fed.error().message;
                                 return fed && more;
                               },
                           .done = [this](const http::Outcome& outcome) { end_watch(outcome); }});
  progress_timer_ = client_.after(config_.times.initial, [this] { check_progress(); });
}

// A server that does not know the parameter begins an ordinary watch and never says that the state is
// complete, however much it tells of what changes. And what stands between it and us may take a question that
// never comes to it, while others do: an ordinary watch may tell nothing for long, but must begin.
void Reflector::check_progress() {
  if (request_ == 0 || (!initial_ && head_.status != 0)) return;
  const auto now = Clock::now();
  const auto left =
      std::min(progress_ + config_.times.initial, begun_ + kLongestInitial * config_.times.initial) - now;
  if (left.count() > 0) {
    progress_timer_ =
        client_.after(std::chrono::ceil<std::chrono::milliseconds>(left), [this] { check_progress(); });
    return;
  }
  stop_request();
  // Nothing was answered at all: that says nothing about what it knows.
  if (head_.status != 200) return retry(fmt::format("{}no answer in time", kNotReached));
  watch_list_ = false;
  begin();
}

bool Reflector::take_frame(std::string_view json) {
  auto event = reader_.read_event(json);
  if (!event) event = ObjectReader::salvage_event(json, event.error().message);
  if (!event) {
    trouble_ = event.error().message;
    return false;
  }
  ++frames_taken_;
  using enum WatchEvent::Type;
  if (event->type == kError) {
    trouble_ = fmt::format("the watch was ended with {}: {}", event->code, event->message);
    expired_ = is_expired(event->code, event->message);
    return false;
  }
  reached();
  if (event->type == kUnknown) return true;
  if (event->type == kBookmark) return take_bookmark(event->object);
  const std::string& version = event->object.version;
  if (!initial_ && !version.empty()) version_ = version;
  if (event->type == kDeleted) {
    unsee(event->object.name);
    take_gone(event->object.name, initial_ ? std::string() : version_);
  } else {
    // The state is told as ADDED; what changes meanwhile brings its end no nearer.
    if (initial_ && see(event->object.name) && event->type == kAdded) progress_ = Clock::now();
    take_object(std::move(event->object));
  }
  if (!initial_) watch_works();
  return true;
}

bool Reflector::take_bookmark(const ReadObject& bookmark) {
  if (initial_ && !bookmark.initial_end) {  // of a WatchList the first one is the end
    not_understood_ = true;
    return false;
  }
  if (!bookmark.version.empty()) version_ = bookmark.version;
  if (initial_) {
    initial_ = false;
    client_.cancel(progress_timer_);
    forget_unseen();
    status_.state = "watched";
    status_.current = true;
    synced();
    return true;
  }
  watch_works();
  queue_.put({.what = Delivery::What::kVersion,
              .kind = config_.resource.kind,
              .name = {},
              .decoded = {},
              .version = version_});
  return true;
}

void Reflector::watch_works() {
  errors_in_a_row_ = 0;
  expired_in_a_row_ = 0;
}

void Reflector::end_watch(const http::Outcome& outcome) {
  request_ = 0;
  client_.cancel(progress_timer_);
  if (not_understood_) {
    watch_list_ = false;
    return begin();
  }
  if (expired_) return expired();
  if (outcome.failure != Failure::kNone || head_.status != 200) return fail_with(outcome);
  if (frames_taken_ == 0 && Clock::now() - begun_ < kShortestWatch)
    return retry("the watch is closed at once");
  if (initial_) return retry("the list is closed in its middle");
  watch_works();
  begin_watch(false);
}

}  // namespace bpfnet::kubernetes
