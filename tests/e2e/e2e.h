#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {

/// The binaries of this build.
Binaries built_binaries();
/// Options for a cluster of `nodes`, with more flags for every agent.
ClusterOptions cluster_options(std::vector<std::string> nodes = {"node-a", "node-b"},
                               std::vector<std::string> agent_args = {});

/// The name of a namespace of this run, for those that a test makes by hand.
std::string netns_name(const std::string& name);

inline std::string family_name(const testing::TestParamInfo<Family>& info) {
  return info.param == Family::kIpv4 ? "IPv4" : "IPv6";
}

/// An address of the parameter's family: `pick(family, "192.0.2.1", "2001:db8::1")`.
Address pick(Family family, const std::string& ip4, const std::string& ip6);

/// That `seen` is an answer of `server`, which saw `source` as the peer's address.
testing::AssertionResult answered(const Result<Seen>& seen, const std::string& server, const Address& source);
/// That `result` failed with this errno.
template <typename T>
testing::AssertionResult failed_with(const Result<T>& result, int code) {
  if (result) return testing::AssertionFailure() << "it worked";
  if (result.error().code != code) {
    return testing::AssertionFailure() << result.error().message << ", expected " << errno_name(code);
  }
  return testing::AssertionSuccess();
}
template <typename T>
testing::AssertionResult worked(const Result<T>& result) {
  if (result) return testing::AssertionSuccess();
  return testing::AssertionFailure() << result.error().message;
}

/// Stops the agent and takes away all that it made.
testing::AssertionResult agent_removed(Node& node);

struct HttpReply {
  int status = 0;   ///< 0: no answer
  int error = 0;    ///< errno of the connect
  std::string raw;  ///< headers and body
  [[nodiscard]] std::string body() const {
    const size_t end = raw.find("\r\n\r\n");
    return end == std::string::npos ? "" : raw.substr(end + 4);
  }
};
/// GET from within a namespace, as probes and load balancers ask.
HttpReply http_get(const Netns& from, const HostPort& to, const std::string& path);

/// A short wait for what must not come.
constexpr milliseconds kSilence{400};

/// Two nodes with pods web-a, client-a, hostport-a, web-b, client-b (the letter is the node's) and services:
///   web     10.96.0.10 fd00:10:96::10  web-a and web-b   NodePort 30080
///   only-a  10.96.0.11 fd00:10:96::11  web-a             NodePort 30081
///   only-b  10.96.0.12 fd00:10:96::12  web-b             NodePort 30082
///   empty   10.96.0.13 fd00:10:96::13  nothing           NodePort 30083
/// each with port 80, TCP and UDP, to 8080. hostport-a is published on port 18080 of node-a.
/// Shared by the tests of one suite.
class TwoNodes : public testing::TestWithParam<Family> {
 public:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

 protected:
  static void set_up(ClusterOptions options);
  [[nodiscard]] static bool has_cluster() { return cluster_ != nullptr; }
  static Cluster& cluster() { return *cluster_; }
  static Node& node_a() { return cluster_->node(0); }
  static Node& node_b() { return cluster_->node(1); }
  static Pod& pod(const std::string& name) { return cluster_->pod(name); }
  static Network& network() { return cluster_->network(); }
  [[nodiscard]] static Family family() { return GetParam(); }
  /// `number`: 10 web, 11 only-a, 12 only-b, 13 empty.
  [[nodiscard]] static HostPort service(int number) { return {service_ip(number, family()), 80}; }
  [[nodiscard]] static Address service_ip(int number, Family family);
  void SetUp() override { ASSERT_TRUE(cluster_) << "the cluster could not be made"; }
  void TearDown() override;

 private:
  static std::unique_ptr<Cluster> cluster_;
};

/// node-a alone, with pods web-a and client-a.
class OneNode : public testing::Test {
 public:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

 protected:
  void SetUp() override { ASSERT_TRUE(cluster_) << "the cluster could not be made"; }
  static Node& node() { return cluster_->node(0); }
  /// Whether client-a is served by the cluster IP of echo_service()'s `number`.
  static bool answers(int number);
  static std::unique_ptr<Cluster> cluster_;
};

/// A service with port 80, TCP and UDP, to the pods' echo servers.
ServiceManifest echo_service(const std::string& name, int number, std::vector<BackendManifest> backends,
                             uint16_t node_port = 0);

}  // namespace bpfnet::e2e
