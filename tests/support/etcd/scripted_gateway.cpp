#include "tests/support/etcd/scripted_gateway.h"

#include <chrono>
#include <stdexcept>

#include "base/base64.h"
#include "control/etcd/wire.h"

namespace bpfnet::test {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{20'000};

}  // namespace

ScriptedGateway::ScriptedGateway()
    : server_({}, [this](const HttpRequest& request, HttpConnection& connection) {
        serve(request, connection);
      }) {}

void ScriptedGateway::then(const std::string& path, Step step) {
  const std::lock_guard lock(mutex_);
  steps_[path].push_back(std::move(step));
  moved_.notify_all();
}

void ScriptedGateway::then(const std::string& path, const json& answer) {
  const int status = answer.contains("error") ? answer.value("status", 400) : 200;
  then(path, [text = answer.dump(), status](const Request&, HttpConnection& connection) {
    connection.answer(status, text);
  });
}

void ScriptedGateway::then_watch(std::vector<json> frames, size_t piece) {
  then("watch", [frames = std::move(frames), piece](const Request&, HttpConnection& connection) {
    std::string text;
    for (const json& frame : frames) text += json{{"result", frame}}.dump() + "\n";
    connection.start_chunked(200);
    for (size_t at = 0; at < text.size(); at += piece)
      if (!connection.chunk(std::string_view(text).substr(at, piece))) return;
    while (connection.open()) connection.wait(-1, kPatience);
  });
}

void ScriptedGateway::serve(const HttpRequest& request, HttpConnection& connection) {
  const std::string path = request.path.starts_with("/v3/") ? request.path.substr(4) : request.path;
  const Request seen{path, json::parse(request.body, nullptr, false), request.header("authorization")};
  Step step;
  {
    std::unique_lock lock(mutex_);
    requests_[path].push_back(seen);
    moved_.notify_all();
    while (steps_[path].empty() && connection.open()) moved_.wait_for(lock, milliseconds(50));
    if (steps_[path].empty()) return;
    step = std::move(steps_[path].front());
    steps_[path].pop_front();
  }
  step(seen, connection);
}

ScriptedGateway::Request ScriptedGateway::next(const std::string& path) {
  std::unique_lock lock(mutex_);
  const bool came =
      moved_.wait_for(lock, kPatience, [&] { return requests_[path].size() > looked_at_[path]; });
  if (!came) throw std::runtime_error("no request for " + path);
  return requests_[path][looked_at_[path]++];
}

size_t ScriptedGateway::count(const std::string& path) {
  const std::lock_guard lock(mutex_);
  return requests_[path].size();
}

json ScriptedGateway::header(int64_t revision, uint64_t cluster) {
  return {{"cluster_id", std::to_string(cluster)}, {"revision", std::to_string(revision)}};
}

json ScriptedGateway::kv(const std::string& key, const std::string& value, int64_t revision) {
  return {{"key", to_base64(key)}, {"value", to_base64(value)}, {"mod_revision", std::to_string(revision)}};
}

json ScriptedGateway::range(int64_t revision, std::vector<json> kvs, bool more) {
  const std::string count = std::to_string(kvs.size());
  return {{"header", header(revision)}, {"kvs", std::move(kvs)}, {"count", count}, {"more", more}};
}

json ScriptedGateway::created(int64_t revision, uint64_t cluster) {
  return {{"header", header(revision, cluster)}, {"created", true}};
}

json ScriptedGateway::put(const std::string& key, const std::string& value, int64_t revision, bool fragment) {
  return {
      {"header", header(revision)}, {"events", {{{"kv", kv(key, value, revision)}}}}, {"fragment", fragment}};
}

json ScriptedGateway::deleted(const std::string& key, int64_t revision) {
  json at = kv(key, "", revision);
  at.erase("value");
  return {{"header", header(revision)}, {"events", {{{"type", "DELETE"}, {"kv", at}}}}};
}

}  // namespace bpfnet::test
