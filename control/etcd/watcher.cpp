#include "control/etcd/watcher.h"

#include <cerrno>

namespace bpfnet::etcd {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kPage = 500;
/// An endpoint that failed so long after the last one is left for the next one without a pause.
constexpr std::chrono::seconds kCalm{5};

}  // namespace

void Watcher::told(std::string state, bool current) {
  state_ = state;
  listener_.moved(std::move(state), current);
}

void Watcher::failed(const std::string& why, bool relist) {
  close_stream();
  listing_.reset();
  ++counts_.failures;
  told("waiting: " + why, false);
  const auto again = [this, relist] {
    timer_ = 0;
    relist || next_revision_ == 0 ? list() : watch();
  };
  gateway_.next_endpoint();
  const auto now = http::Backoff::Clock::now();
  const bool at_once = gateway_.config().endpoints.size() > 1 && now - last_failure_ > kCalm;
  last_failure_ = now;
  timer_ = client_.after(at_once ? milliseconds(0) : backoff_.next(now), again);
}

void Watcher::list() {
  ++counts_.lists;
  listing_.emplace();
  told("listing", false);
  ask_page(gateway_.config().prefix);
}

void Watcher::ask_page(const std::string& key) {
  const RangeRequest request{.key = key,
                             .end = range_end(gateway_.config().prefix),
                             .revision = listing_->header.revision,
                             .limit = kPage};
  gateway_.call("kv/range", range_body(request), Gateway::Where::kAnywhere,
                [this](Result<std::string> body) { take_page(std::move(body)); });
}

void Watcher::take_page(Result<std::string> body) {
  if (!listing_) return;
  if (!body) {
    // Compacted while it was read: from the beginning, at a newer one.
    if (body.error().code == ESTALE && listing_->header.revision != 0) return list();
    return failed(body.error().message, true);
  }
  auto page = parse_range(*body);
  if (!page) return failed(page.error().message, true);
  if (listing_->header.revision == 0) listing_->header = page->header;
  // Another endpoint may be that of another cluster.
  if (listing_->header.cluster_id != page->header.cluster_id)
    return failed("the endpoints are of different clusters", true);
  for (KeyValue& each : page->values) listing_->values.push_back(std::move(each));
  if (!page->more || page->values.empty()) return finish_list();
  ask_page(listing_->values.back().key + '\0');
}

void Watcher::finish_list() {
  const Listing listing = std::move(*listing_);
  listing_.reset();
  // A number of another cluster says nothing of ours: everything may be different.
  const bool same_cluster =
      cluster_id_ == listing.header.cluster_id && listing.header.revision + 1 >= next_revision_;
  Listener::Changes changes{.revision = listing.header.revision, .whole = true, .events = {}};
  std::unordered_map<std::string, int64_t> known;
  for (const KeyValue& each : listing.values) {
    const auto before = known_.find(each.key);
    if (!same_cluster || before == known_.end() || before->second != each.mod_revision)
      changes.events.push_back({false, each});
    known.emplace(each.key, each.mod_revision);
  }
  for (const auto& [key, revision] : known_)
    if (!known.contains(key)) changes.events.push_back({true, {key, "", revision}});
  known_ = std::move(known);
  cluster_id_ = listing.header.cluster_id;
  next_revision_ = listing.header.revision + 1;
  newest_ = listing.header.revision;
  listener_.changed(std::move(changes));
  watch();
}

void Watcher::watch() {
  const std::string& prefix = gateway_.config().prefix;
  gateway_.prepare("watch", watch_body(prefix, range_end(prefix), next_revision_),
                   [this](Result<http::Request> request) {
                     if (!request) return failed(request.error().message, false);
                     open_stream(std::move(*request));
                   });
}

void Watcher::open_stream(http::Request request) {
  request.deadline = milliseconds(0);
  frames_.emplace();
  fragments_.clear();
  ending_ = {};
  suspicious_ = false;
  ++stream_number_;
  stream_ = client_.send(std::move(request),
                         {.data =
                              [this](std::string_view data) {
                                return frames_->feed(
                                    data, [this](std::string_view line) { return take_frame(line); });
                              },
                          .done = [this](const http::Outcome& outcome) { ended(outcome); }});
  look_soon();  // also when nothing at all is heard
}

void Watcher::close_stream() {
  client_.cancel(std::exchange(stream_, 0));
  client_.cancel(std::exchange(timer_, 0));
  ++stream_number_;
}

// A stream that ended without a word of its own: not every end is one, but none of them loses anything.
void Watcher::ended(const http::Outcome& outcome) {
  stream_ = 0;
  if (const auto next = std::exchange(ending_, {})) return next();
  std::string why = outcome.message;
  if (frames_ && frames_->too_long()) why = "a frame of the watch is too long";
  if (why.empty())
    why = outcome.status == 200 ? "the watch was closed" : fmt::format("HTTP {}", outcome.status);
  failed(fmt::format("{}: {}", gateway_.endpoint(), why), false);
}

// False ends the stream; what is to be done then has been begun.
bool Watcher::take_frame(std::string_view line) {
  auto frame = parse_watch_frame(line);
  const auto fail_after = [this](std::string why) {
    ending_ = [this, why = std::move(why)] { failed(why, false); };
    return false;
  };
  if (!frame) return fail_after(frame.error().message);
  if (frame->error) {
    if (wants_token(*frame->error)) gateway_.forget_token();
    return fail_after(frame->error->message);
  }
  if (frame->canceled) return take_canceled(*frame);
  if (frame->created) return take_created(*frame);
  take_events(std::move(*frame));
  return true;
}

bool Watcher::take_created(const WatchFrame& frame) {
  // A store put back from a copy: what we know may never have been, and what is new has old numbers.
  if (frame.header.cluster_id != cluster_id_ || frame.header.revision + 1 < next_revision_) {
    ending_ = [this] {
      close_stream();
      list();
    };
    return false;
  }
  newest_ = frame.header.revision;
  told("watched", true);
  return true;
}

bool Watcher::take_canceled(const WatchFrame& frame) {
  if (frame.compact_revision != 0) {
    ending_ = [this] {
      close_stream();
      list();
    };
    return false;
  }
  const ServerError reason{.code = 0, .message = frame.cancel_reason};
  if (wants_token(reason)) gateway_.forget_token();
  ending_ = [this, why = frame.cancel_reason.empty() ? "the watch was canceled" : frame.cancel_reason] {
    failed(why, false);
  };
  return false;
}

void Watcher::take_events(WatchFrame frame) {
  for (Event& event : frame.events) fragments_.push_back(std::move(event));
  if (frame.fragment) return;
  Listener::Changes changes{
      .revision = frame.header.revision, .whole = false, .events = std::exchange(fragments_, {})};
  // A batch of old events may end before the store's revision, which the frame tells all the same.
  if (!changes.events.empty()) changes.revision = changes.events.back().at.mod_revision;
  if (changes.revision + 1 < next_revision_) return;
  next_revision_ = changes.revision + 1;
  newest_ = std::max(newest_, frame.header.revision);
  suspicious_ = false;
  for (const Event& event : changes.events) {
    if (event.deleted) {
      known_.erase(event.at.key);
    } else {
      known_[event.at.key] = event.at.mod_revision;
    }
  }
  listener_.changed(std::move(changes));
}

void Watcher::look_soon() {
  timer_ = client_.after(gateway_.config().look_interval, [this] {
    timer_ = 0;
    look();
  });
}

void Watcher::look() {
  const std::string& prefix = gateway_.config().prefix;
  const uint64_t number = stream_number_;
  auto body = range_body({.key = prefix, .end = range_end(prefix), .count_only = true});
  // Through this endpoint and no other: it is the one whose stream is trusted.
  gateway_.call("kv/range", std::move(body), Gateway::Where::kHere,
                [this, number](const Result<std::string>& answer) {
                  if (number == stream_number_) take_look(answer);
                });
}

void Watcher::take_look(const Result<std::string>& body) {
  if (!body) return failed(body.error().message, false);
  const auto look = parse_range(*body);
  if (!look) return failed(look.error().message, false);
  const bool different = look->count != static_cast<int64_t>(known_.size());
  // What differs may be on its way; twice in a row, with nothing heard in between, it is not.
  if (look->header.cluster_id != cluster_id_ || (different && suspicious_))
    return failed("the watch does not tell what changes", true);
  suspicious_ = different;
  look_soon();
}

}  // namespace bpfnet::etcd
