#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "control/etcd/config.h"
#include "tests/support/http/http_server.h"

namespace bpfnet::test {

/// A v3 gateway whose every answer is written by the test, in the order of the requests.
class ScriptedGateway {
 public:
  struct Request {
    std::string path;  ///< `kv/range`
    nlohmann::json body;
    std::string token;
  };
  /// Gives the answer; runs on a thread of the server.
  using Step = std::function<void(const Request&, HttpConnection&)>;

  ScriptedGateway();
  /// The answer to the next request for `path`. Requests without one wait for it.
  void then(const std::string& path, Step step);
  void then(const std::string& path, const nlohmann::json& answer);
  /// A watch that says these frames, and then nothing more until the client goes.
  void then_watch(std::vector<nlohmann::json> frames, size_t piece = 1 << 20);

  /// The next request for `path` that was not looked at yet; waits for it. Throws after 20 seconds.
  Request next(const std::string& path);
  [[nodiscard]] size_t count(const std::string& path);
  [[nodiscard]] etcd::Config config() const { return {.endpoints = {server_.url()}}; }
  HttpServer& server() { return server_; }

  static nlohmann::json header(int64_t revision, uint64_t cluster = 7);
  static nlohmann::json kv(const std::string& key, const std::string& value, int64_t revision);
  static nlohmann::json range(int64_t revision, std::vector<nlohmann::json> kvs, bool more = false);
  static nlohmann::json created(int64_t revision, uint64_t cluster = 7);
  static nlohmann::json put(const std::string& key, const std::string& value, int64_t revision,
                            bool fragment = false);
  static nlohmann::json deleted(const std::string& key, int64_t revision);

 private:
  void serve(const HttpRequest& request, HttpConnection& connection);

  std::mutex mutex_;
  std::condition_variable moved_;
  std::map<std::string, std::deque<Step>> steps_;
  std::map<std::string, std::vector<Request>> requests_;
  std::map<std::string, size_t> looked_at_;
  HttpServer server_;
};

}  // namespace bpfnet::test
