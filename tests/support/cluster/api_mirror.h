#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>

#include "tests/support/apiserver/api_server.h"
#include "tests/support/cluster/netns.h"

namespace bpfnet::e2e {

/// An API server in a network namespace that has what manifest files say, so that tests which write files can
/// be run against it as they are.
class ApiMirror {
 public:
  /// `address`: one of the namespace.
  ApiMirror(const Netns& netns, const std::string& address);

  [[nodiscard]] test::ApiServer& server() { return *server_; }
  [[nodiscard]] std::string url() const { return server_->url(); }
  /// The file's objects, created, replaced and removed at once.
  void put(const std::string& file, const std::string& yaml);
  void remove(const std::string& file) { put(file, ""); }
  /// Refuses connections and ends those there are; start() serves again.
  void stop() { server_->http().stop(); }
  void start();

 private:
  using Id = std::tuple<std::string, std::string, std::string>;  ///< kind, namespace, name
  const Netns& netns_;
  std::unique_ptr<test::ApiServer> server_;
  std::mutex mutex_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, std::set<Id>> objects_;
};

}  // namespace bpfnet::e2e
