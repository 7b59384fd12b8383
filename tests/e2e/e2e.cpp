#include "tests/e2e/e2e.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace bpfnet::e2e {

std::unique_ptr<Cluster> TwoNodes::cluster_;

Binaries built_binaries() {
  return {.bpfnetd = BPFNETD_BINARY, .bpfnet_cni = BPFNET_CNI_BINARY, .bpfnetctl = BPFNETCTL_BINARY};
}

ClusterOptions cluster_options(std::vector<std::string> nodes, std::vector<std::string> agent_args) {
  ClusterOptions options;
  options.binaries = built_binaries();
  options.nodes = std::move(nodes);
  options.agent_args = std::move(agent_args);
  // Everything holds in both ways of translating services.
  const char* sockets = std::getenv("BPFNET_E2E_SOCKETS");
  options.sockets = sockets != nullptr && std::string(sockets) == "on" ? "on" : "off";
  // And whichever way the objects come.
  if (const char* source = std::getenv("BPFNET_E2E_SOURCE"); source != nullptr && *source != '\0')
    options.source = source;
  // And whichever way packets go between the nodes.
  if (const char* routing = std::getenv("BPFNET_E2E_ROUTING"); routing != nullptr && *routing != '\0')
    options.routing = routing;
  // Two checkouts on one machine can run side by side under names of their own.
  if (const char* name = std::getenv("BPFNET_E2E_NAME"); name != nullptr && *name != '\0') {
    options.prefix = fmt::format("bn-{}-", name);
    options.run_root = fmt::format("/run/bpfnet-test-{}", name);
  }
  return options;
}

std::string netns_name(const std::string& name) {
  return cluster_options().prefix + name;
}

Address pick(Family family, const std::string& ip4, const std::string& ip6) {
  return Address::parse(family == Family::kIpv4 ? ip4 : ip6).value();
}

testing::AssertionResult answered(const Result<Seen>& seen, const std::string& server,
                                  const Address& source) {
  if (!seen) return testing::AssertionFailure() << seen.error().message;
  if (seen->server != server)
    return testing::AssertionFailure() << seen->server << " answered, not " << server;
  if (seen->peer.address != source) {
    return testing::AssertionFailure()
           << server << " saw the source " << seen->peer.to_string() << ", not " << source.to_string();
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult agent_removed(Node& node) {
  node.stop_agent();
  if (node.cleanup() == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << read_text(node.dir("cleanup.log"));
}

HttpReply http_get(const Netns& from, const HostPort& to, const std::string& path) {
  return from.in([&]() -> HttpReply {
    sockaddr_storage name{};
    const socklen_t length = to_sockaddr(to, name);
    const Fd fd(socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval timeout{.tv_sec = 5, .tv_usec = 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0) return {.error = errno};
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n";
    if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return {.error = errno};
    HttpReply reply;
    std::array<char, 65536> chunk{};
    ssize_t got = 0;
    while ((got = recv(fd.get(), chunk.data(), chunk.size(), 0)) > 0)
      reply.raw.append(chunk.data(), static_cast<size_t>(got));
    if (reply.raw.size() > 12) reply.status = std::stoi(reply.raw.substr(9, 3));
    return reply;
  });
}

ServiceManifest echo_service(const std::string& name, int number, std::vector<BackendManifest> backends,
                             uint16_t node_port) {
  ServiceManifest service;
  service.name = name;
  service.cluster_ips = {Address::parse(fmt::format("10.96.0.{}", number)).value(),
                         Address::parse(fmt::format("fd00:10:96::{}", number)).value()};
  service.ports = {{"tcp", "TCP", 80, Pod::kPort, node_port}, {"udp", "UDP", 80, Pod::kPort, node_port}};
  service.backends = std::move(backends);
  return service;
}

Address TwoNodes::service_ip(int number, Family family) {
  const auto service = echo_service("any", number, {});
  return service.cluster_ips.at(family == Family::kIpv4 ? 0 : 1);
}

std::unique_ptr<Cluster> OneNode::cluster_;

void OneNode::SetUpTestSuite() {
  cluster_ = std::make_unique<Cluster>(cluster_options({"node-a"}));
  cluster_->add_pod(0, "web-a");
  cluster_->add_pod(0, "client-a");
}

void OneNode::TearDownTestSuite() {
  cluster_.reset();
}

bool OneNode::answers(int number) {
  const HostPort to{Address::parse(fmt::format("10.96.0.{}", number)).value(), 80};
  return ask(cluster_->pod("client-a").netns(), "tcp", to, {.timeout = kSilence}).has_value();
}

void TwoNodes::SetUpTestSuite() {
  set_up(cluster_options());
}

void TwoNodes::set_up(ClusterOptions options) {
  cluster_ = std::make_unique<Cluster>(std::move(options));
  for (const auto* name : {"web-a", "client-a"}) cluster_->add_pod(0, name, {.labels = {{"app", name}}});
  for (const auto* name : {"web-b", "client-b"}) cluster_->add_pod(1, name, {.labels = {{"app", name}}});
  PodOptions published{.labels = {{"app", "hostport"}}};
  // One entry in the runtimes' camelCase, one as containerd sends it (C20).
  published.runtime_config = R"({"portMappings":[
    {"hostPort":18080,"containerPort":8080,"protocol":"tcp"},
    {"HostPort":18080,"ContainerPort":8080,"Protocol":"udp","HostIP":""}]})";
  cluster_->add_pod(0, "hostport-a", published);
  const auto a = cluster_->backend("web-a");
  const auto b = cluster_->backend("web-b");
  std::string services;
  for (const auto& service : {echo_service("web", 10, {a, b}, 30080), echo_service("only-a", 11, {a}, 30081),
                              echo_service("only-b", 12, {b}, 30082), echo_service("empty", 13, {}, 30083)}) {
    services += "---\n" + service.yaml();
  }
  cluster_->apply("services", services);
}

void TwoNodes::TearDownTestSuite() {
  cluster_.reset();
}

void TwoNodes::TearDown() {
  if (!HasFailure() || !cluster_) return;
  for (auto* node : {&node_a(), &node_b()}) {
    for (const auto* view : {"drops", "flow list"}) {
      std::vector<std::string> args = view == std::string("drops") ? std::vector<std::string>{"drops"}
                                                                   : std::vector<std::string>{"flow", "list"};
      const Output output = node->ctl_text(args);
      fmt::print("---- {} {}:\n{}{}", node->name(), view, output.out, output.err);
    }
  }
}

}  // namespace bpfnet::e2e
