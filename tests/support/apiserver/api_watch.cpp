#include "tests/support/apiserver/api_watch.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace bpfnet::test {
namespace {

constexpr size_t kEventsAtOnce = 1000;

std::string frame(const std::string& type, const std::string& object) {
  return fmt::format(R"({{"type":"{}","object":{}}})"
                     "\n",
                     type, object);
}

std::string bookmark(const Resource& resource, uint64_t version, bool initial_end) {
  return frame("BOOKMARK",
               fmt::format(R"({{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}"{}}}}})",
                           resource.kind, resource.version, version,
                           initial_end ? R"(,"annotations":{"k8s.io/initial-events-end":"true"})" : ""));
}

/// A deleted object carries the version of its deletion.
std::string deleted(const StoredObject& object, uint64_t version) {
  nlohmann::json last = nlohmann::json::parse(object.with_kind());
  last["metadata"]["resourceVersion"] = std::to_string(version);
  return frame("DELETED", last.dump());
}

bool send_cut(HttpConnection& connection, std::string_view bytes, size_t size) {
  if (size == 0) return connection.chunk(bytes);
  for (; !bytes.empty(); bytes.remove_prefix(std::min(size, bytes.size())))
    if (!connection.chunk(bytes.substr(0, size))) return false;
  return true;
}

}  // namespace

ApiServer::Watch::Watch(ApiServer& server, const Resource& watched, Selectors what)
    : resource(&watched),
      wanted(std::move(what)),
      server_(server),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

ApiServer::Watch::~Watch() {
  const std::lock_guard lock(server_.mutex_);
  server_.watches_.erase(this);
  server_.changed_.notify_all();
}

void ApiServer::Watch::wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(wake_.get(), &one, sizeof(one));
}

void ApiServer::Watch::drain() const {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t done = ::read(wake_.get(), &count, sizeof(count));
}

ApiServer::Watch::Batch ApiServer::Watch::take() {
  const std::lock_guard lock(server_.mutex_);
  Batch batch{.frames = {}, .raw = {}, .silent = server_.silent_, .chunk_size = server_.chunk_size_};
  if (batch.silent) return batch;
  batch.expired = server_.store_.forgotten(version);
  if (batch.expired) return batch;
  const auto events = server_.store_.since(*resource, version, kEventsAtOnce);
  for (const StoredEvent& event : events) {
    const bool before = wanted.matches(event.before.get());
    const bool after = wanted.matches(event.after.get());
    if (after) batch.frames.push_back(frame(before ? "MODIFIED" : "ADDED", event.after->with_kind()));
    if (before && !after)
      batch.frames.push_back(deleted(event.after ? *event.after : *event.before, event.version));
    version = event.version;
  }
  if (events.size() == kEventsAtOnce) {
    wake();
    return batch;
  }
  if (bookmarks && std::exchange(bookmark_due, false))
    batch.frames.push_back(bookmark(*resource, server_.store_.version(), false));
  version = std::max(version, server_.store_.version());
  batch.raw = std::exchange(raw, {});
  batch.ended = ended;
  return batch;
}

void ApiServer::wake_watches() {
  for (const Watch* watch : watches_) watch->wake();
}

void ApiServer::send_bookmarks() {
  const std::lock_guard lock(mutex_);
  for (Watch* watch : watches_) watch->bookmark_due = true;
  wake_watches();
}

void ApiServer::end_watches() {
  const std::lock_guard lock(mutex_);
  for (Watch* watch : watches_) watch->ended = true;
  wake_watches();
}

void ApiServer::send_raw(const std::string& bytes) {
  const std::lock_guard lock(mutex_);
  for (Watch* watch : watches_) watch->raw += bytes;
  wake_watches();
}

void ApiServer::watch(const HttpRequest& request, HttpConnection& connection, const Target& target) {
  const auto wanted = selectors(request, target);
  if (!wanted) return connection.answer(400, status_json(400, "BadRequest", "unable to parse a selector"));
  const bool initial = request.parameter("sendInitialEvents") == "true";
  const std::string from = request.parameter("resourceVersion");
  Watch watch(*this, *target.resource, *wanted);
  watch.bookmarks = request.parameter("allowWatchBookmarks") == "true";
  std::string first;
  size_t chunk_size = 0;
  {
    const std::lock_guard lock(mutex_);
    if (initial && !watch_list_)
      return connection.answer(
          422,
          status_json(
              422, "Invalid",
              "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is "
              "forbidden for watch unless the WatchList feature gate is enabled"));
    const bool from_now = from.empty() || from == "0";
    if (!from_now && std::stoull(from) > store_.version())
      return connection.answer(504, status_json(504, "Timeout", "Too large resource version: " + from));
    if (initial || from_now) {
      for (const ObjectPtr& each : store_.all(*target.resource))
        if (wanted->matches(each.get())) first += frame("ADDED", each->with_kind());
      if (initial) first += bookmark(*target.resource, store_.version(), true);
      watch.version = store_.version();
    } else {
      watch.version = std::stoull(from);
    }
    chunk_size = chunk_size_;
    watches_.insert(&watch);
    changed_.notify_all();
  }
  connection.end();
  if (!connection.start_chunked(200) || !send_cut(connection, first, chunk_size)) return;
  const std::string seconds = request.parameter("timeoutSeconds");
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(seconds.empty() ? 3600 : std::stoul(seconds));
  while (std::chrono::steady_clock::now() < end) {
    const Watch::Batch batch = watch.take();
    std::string bytes;
    for (const std::string& each : batch.frames) bytes += each;
    if (!send_cut(connection, bytes, batch.chunk_size) || !connection.raw(batch.raw)) return;
    if (batch.expired) {
      send_cut(connection, frame("ERROR", status_json(410, "Expired", "too old resource version")),
               batch.chunk_size);
      break;
    }
    if (batch.ended) break;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (connection.wait(watch.fd(), left)) watch.drain();
    if (!connection.open()) return;
  }
  connection.end_chunked();
}

}  // namespace bpfnet::test
