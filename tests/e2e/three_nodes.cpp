#include "tests/e2e/three_nodes.h"

#include <fmt/format.h>

#include <thread>

namespace bpfnet::e2e {
namespace {

Address numbered(const std::string& format, int number) {
  return Address::parse(fmt::format(fmt::runtime(format), number)).value();
}

}  // namespace

std::unique_ptr<Cluster> ThreeNodes::cluster_;

Cluster& ThreeNodes::cluster() {
  if (!cluster_) throw std::runtime_error("the cluster could not be made");
  return *cluster_;
}

void ThreeNodes::SetUpTestSuite() {
  cluster_ = std::make_unique<Cluster>(cluster_options({"node-a", "node-b", "node-c"}));
  for (size_t i = 0; i < cluster_->nodes(); i++) {
    const char letter = static_cast<char>('a' + i);
    for (const auto* role : {"web", "client"}) cluster_->add_pod(i, fmt::format("{}-{}", role, letter));
  }
  route_services(network().client(), 0);
  route_services(network().other_client(), 1);
  // The far host's only neighbour is the router.
  route_services(network().router(), 1);
}

void ThreeNodes::TearDownTestSuite() {
  cluster_.reset();
}

void ThreeNodes::route_services(const Host& host, size_t node) {
  host.netns().ip(
      fmt::format("route replace 10.96.0.0/12 via {0}\nroute replace 203.0.113.0/24 via {0}\n"
                  "route replace fd00:10:96::/112 via {1}\nroute replace 2001:db8:113::/64 via {1}",
                  cluster_->node(node).ip(Family::kIpv4).to_string(),
                  cluster_->node(node).ip(Family::kIpv6).to_string()));
}

void ThreeNodes::show_state() {
  for (size_t i = 0; i < cluster().nodes(); i++) {
    for (const auto& args : {std::vector<std::string>{"drops"}, std::vector<std::string>{"flow", "list"}}) {
      const Output output = node(i).ctl_text(args);
      fmt::print("---- {} {}:\n{}{}", node(i).name(), args.front(), output.out, output.err);
    }
  }
}

Address cluster_ip(int number, Family family) {
  return numbered(family == Family::kIpv4 ? "10.96.0.{}" : "fd00:10:96::{}", number);
}

Address load_balancer_ip(int number, Family family) {
  return numbered(family == Family::kIpv4 ? "203.0.113.{}" : "2001:db8:113::{}", number);
}

Address external_ip(int number, Family family) {
  return load_balancer_ip(number + 100, family);
}

ServiceManifest open_service(const std::string& name, int number, std::vector<BackendManifest> backends) {
  ServiceManifest service = echo_service(name, number, std::move(backends), node_port(number));
  for (const auto family : kFamilies) {
    service.load_balancer_ips.push_back(load_balancer_ip(number, family));
    service.external_ips.push_back(external_ip(number, family));
  }
  return service;
}

std::vector<Result<Seen>> ask_all(const std::vector<Probe>& probes) {
  std::vector<Result<Seen>> results(probes.size(), fail("not asked"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < probes.size(); i++) {
    threads.emplace_back([&probe = probes[i], &result = results[i]] {
      result = ask(*probe.from, probe.protocol, probe.to, probe.options);
    });
  }
  for (auto& thread : threads) thread.join();
  return results;
}

}  // namespace bpfnet::e2e
