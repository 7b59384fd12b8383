#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {

/// Three nodes with pods web-a, client-a, web-b, client-b, web-c, client-c (the letter is the node's), and
/// clients outside, for which service addresses lead to a node: `client` goes by node-a, `other_client` and
/// `far` by node-b. The tests of a suite share it: a fixture is `class X : public ThreeNodes, public
/// testing::WithParamInterface<..>`.
class ThreeNodes : public testing::Test {
 public:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

 protected:
  static Cluster& cluster();
  static Node& node(size_t index) { return cluster().node(index); }
  static Pod& pod(const std::string& name) { return cluster().pod(name); }
  static Network& network() { return cluster().network(); }
  static BackendManifest backend(const std::string& pod) { return cluster().backend(pod); }
  /// Sends what `host` says to service addresses by `node`.
  static void route_services(const Host& host, size_t node);
  /// Drops and flows of every node; for TearDown of a failed test.
  static void show_state();

 private:
  static std::unique_ptr<Cluster> cluster_;
};

/// A service with every way in: as echo_service(), NodePort 30000 + number, load balancer 203.0.113.NUMBER
/// and externalIP 203.0.113.(NUMBER + 100), likewise below 2001:db8:113::/64. `number` is below 100.
ServiceManifest open_service(const std::string& name, int number, std::vector<BackendManifest> backends);
Address cluster_ip(int number, Family family);
Address load_balancer_ip(int number, Family family);
Address external_ip(int number, Family family);
inline uint16_t node_port(int number) {
  return static_cast<uint16_t>(30000 + number);
}

inline constexpr std::array kFamilies = {Family::kIpv4, Family::kIpv6};
inline constexpr std::array kProtocols = {"tcp", "udp"};

/// One connection attempt among many that are made at once.
struct Probe {
  std::string what;  ///< for the failure's message
  const Netns* from = nullptr;
  std::string protocol;
  HostPort to;
  SocketOptions options;
};
/// Makes them all at once, each on a thread; the results stand in the order of the probes.
std::vector<Result<Seen>> ask_all(const std::vector<Probe>& probes);

/// How long a client waits for an answer that must come: a busy machine is no failure.
inline constexpr milliseconds kPatience{8000};

}  // namespace bpfnet::e2e
