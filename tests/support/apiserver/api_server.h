#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/apiserver/object_store.h"
#include "tests/support/apiserver/selector.h"
#include "tests/support/http/http_server.h"

namespace bpfnet::test {

/// A Kubernetes API server as far as its clients can tell: lists in pages, watches from a resourceVersion,
/// bookmarks, WatchList, selectors, Events and node status written, and the ways in which servers fail. The
/// test holds the objects and decides when what goes wrong. Everything here may be called from any thread.
class ApiServer {
 public:
  struct Options {
    std::string address = "127.0.0.1";
    uint16_t port = 0;
    std::optional<HttpServer::Tls> tls;
  };
  /// Sees a request before it is answered; true: it has answered itself.
  using Fault = std::function<bool(const HttpRequest&, HttpConnection&)>;

  explicit ApiServer(Options options);
  ApiServer() : ApiServer(Options{}) {}
  ~ApiServer();
  ApiServer(const ApiServer&) = delete;

  [[nodiscard]] std::string url() const { return http_->url(); }
  [[nodiscard]] HttpServer& http() { return *http_; }

  // Objects. Each gives the resourceVersion it made.
  uint64_t put(const nlohmann::json& object);
  /// Several at once: no list sees a part of them.
  uint64_t put_all(const std::vector<nlohmann::json>& objects);
  /// 0: there is none.
  uint64_t remove(const std::string& kind, const std::string& ns, const std::string& name);
  /// null: there is none.
  [[nodiscard]] nlohmann::json get(const std::string& kind, const std::string& ns,
                                   const std::string& name) const;
  [[nodiscard]] std::vector<nlohmann::json> all(const std::string& kind) const;
  [[nodiscard]] uint64_t version() const;

  // How it is.
  /// Kinds whose CustomResourceDefinition is not installed: 404.
  void set_missing(const std::string& kind, bool missing);
  /// The kind is served in this version of its group (`discovery.k8s.io/v1beta1`) instead of the one it has
  /// now.
  void set_older(const std::string& kind, const std::string& version);
  void set_newest(const std::string& kind);
  /// Without it the request is refused as servers before 1.32 do. On at first.
  void set_watch_list(bool on);
  /// Watches cut what they send into chunks of this many bytes; 0: an event, a chunk.
  void set_chunk_size(size_t bytes);
  /// Only requests with one of these are answered, others get 401; empty: any.
  void set_tokens(const std::set<std::string>& tokens);
  /// Forgets the history: older versions get 410, watches by an ERROR event.
  void compact();
  /// A server that starts anew on the old history: watches begin now, older versions get 410 for them; lists
  /// of exactly an old version still succeed. Connections are the test's to drop.
  void restart_cache();
  /// As servers before 1.19, which do not know resourceVersionMatch.
  void set_version_match(bool on);
  void skip_versions(uint64_t count);

  // What it does now.
  /// A bookmark to every watch that asked for them.
  void send_bookmarks();
  /// Every watch comes to its proper end, as after timeoutSeconds.
  void end_watches();
  /// Every watch gets these bytes as they are, between two chunks.
  void send_raw(const std::string& bytes);
  /// Neither answers nor closes anything, until it is off again.
  void set_silent(bool silent);
  void set_fault(Fault fault);

  // What it saw.
  [[nodiscard]] std::vector<HttpRequest> requests() const;
  void forget_requests();
  /// Waits until a request came that `wanted` says yes to. False: not in `time`.
  bool wait_for(const std::function<bool(const HttpRequest&)>& wanted,
                std::chrono::milliseconds time = std::chrono::seconds(10)) const;
  /// Watches that are being served now.
  [[nodiscard]] size_t watches() const;
  bool wait_for_watches(size_t count, std::chrono::milliseconds time = std::chrono::seconds(10)) const;

 private:
  class Watch;
  struct Page;  ///< a list that is not told to its end

  void handle(const HttpRequest& request, HttpConnection& connection);
  bool stay_silent(HttpConnection& connection);
  void list(const HttpRequest& request, HttpConnection& connection, const Target& target);
  void watch(const HttpRequest& request, HttpConnection& connection, const Target& target);
  [[nodiscard]] std::optional<std::string> discovery(const std::string& path) const;
  [[nodiscard]] std::optional<Target> target_of(const std::string& path) const;
  void get_one(HttpConnection& connection, const Target& target);
  void create(const HttpRequest& request, HttpConnection& connection, const Target& target);
  void patch(const HttpRequest& request, HttpConnection& connection, const Target& target);
  void replace(const HttpRequest& request, HttpConnection& connection, const Target& target);
  void erase(HttpConnection& connection, const Target& target);
  void wake_watches();
  /// The selectors of a request; false: answered with 400.
  struct Selectors {
    RequestSelector labels;
    RequestSelector fields;
    std::string ns;
    [[nodiscard]] bool matches(const StoredObject* object) const;
  };
  static std::optional<Selectors> selectors(const HttpRequest& request, const Target& target);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  ObjectStore store_;
  std::set<Watch*> watches_;
  std::map<std::string, Page> pages_;
  uint64_t next_page_ = 1;
  std::set<std::string> missing_;
  std::map<std::string, std::string> older_;  ///< versions, by kind
  std::set<std::string> tokens_;
  bool watch_list_ = true;
  bool version_match_ = true;
  size_t chunk_size_ = 0;
  bool silent_ = false;
  Fault fault_;
  std::vector<HttpRequest> requests_;
  std::unique_ptr<HttpServer> http_;
};

/// A Status object, as the server answers with it.
std::string status_json(int code, const std::string& reason, const std::string& message);

/// The objects of a text of manifests (YAML), as JSON. Throws if it is none.
std::vector<nlohmann::json> objects_of_manifest(std::string_view yaml);

}  // namespace bpfnet::test
