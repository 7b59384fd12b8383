#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/kubernetes/source.h"
#include "tests/support/apiserver/api_server.h"

namespace bpfnet::kubernetes {

nlohmann::json service(const std::string& name, const std::string& ip,
                       const nlohmann::json& labels = nlohmann::json::object());
nlohmann::json slice(const std::string& name, const std::string& service, const std::vector<std::string>& ips,
                     const nlohmann::json& labels = nlohmann::json::object());
nlohmann::json pod(const std::string& name, const std::string& node, const std::string& ip);
nlohmann::json node(const std::string& name, const std::string& ip);

/// A source on a server of the test's own. Nothing is slow: the times of the source are those of a test.
class SourceTest : public testing::Test {
 protected:
  static KubernetesSource::Options quick();
  void open(KubernetesSource::Options options);
  void open() { open(quick()); }
  void close() { source_.reset(); }

  /// Runs the source until `holds`. False: not in ten seconds.
  bool until(const std::function<bool()>& holds);
  bool until_synced() {
    return until([this] { return source_->synced(); });
  }
  /// Until the source has everything that the server has of this kind now.
  bool until_current(const std::string& kind);
  [[nodiscard]] std::vector<std::string> services() const;
  [[nodiscard]] sources::KindStatus status(const std::string& kind) const;
  [[nodiscard]] std::vector<std::string> problems() const;
  /// Requests for this kind so far: `list`, `list 0` (by resourceVersion), `page`, `watch`, `initial`.
  [[nodiscard]] std::vector<std::string> asked(const std::string& plural) const;

  /// Ends source and server before what a fault refers to goes.
  struct Guard {
    explicit Guard(SourceTest& owner) : test(owner) {}
    ~Guard() {
      test.source_.reset();
      test.server_.http().stop();
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    SourceTest& test;
  };
  [[nodiscard]] Guard fault(test::ApiServer::Fault what) {
    server_.set_fault(std::move(what));
    return Guard(*this);
  }

  test::ApiServer server_;
  std::unique_ptr<KubernetesSource> source_;
};

/// `GET` of the kind's collection by watch or not.
bool is_watch(const test::HttpRequest& request, const std::string& plural);
bool is_list(const test::HttpRequest& request, const std::string& plural);

}  // namespace bpfnet::kubernetes
