#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/compile/render.h"
#include "control/sources/decode.h"

// Each tests/golden/NAME.yaml is a cluster; NAME.maps.txt is what the compilers make of it. Lines `#! ...`
// say what manifests cannot:
//   #! node NAME ADDRESS...
//   #! cluster CIDR...      #! services CIDR...
//   #! endpoint INDEX NAMESPACE/POD ADDRESS... [hostport HOST:CONTAINER/PROTOCOL [ports COUNT]]
// BPFNET_UPDATE_GOLDEN=1 writes the files anew; read the difference before committing it.
namespace bpfnet::compile {
namespace {

struct Input {
  model::ClusterState state;
  NodeView node;
  std::vector<LocalEndpoint> endpoints;
};

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void read_endpoint(std::istringstream& words, Input& input) {
  LocalEndpoint endpoint;
  std::string pod;
  words >> endpoint.index >> pod;
  endpoint.pod = {pod.substr(0, pod.find('/')), pod.substr(pod.find('/') + 1)};
  for (std::string word; words >> word;) {
    if (word == "ports") {
      words >> endpoint.host_ports.back().count;
      continue;
    }
    if (word != "hostport") {
      endpoint.ips.push_back(Address::parse(word).value());
      continue;
    }
    char separator = 0;
    auto& port = endpoint.host_ports.emplace_back();
    words >> port.host_port >> separator >> port.container_port >> separator >> word;
    port.protocol = word == "UDP" ? model::Protocol::kUdp : model::Protocol::kTcp;
  }
  input.endpoints.push_back(endpoint);
}

void read_directive(const std::string& line, Input& input) {
  std::istringstream words(line.substr(2));
  std::string what;
  words >> what;
  if (what == "endpoint") return read_endpoint(words, input);
  if (what == "node") words >> input.node.name;
  for (std::string word; words >> word;) {
    if (what == "node") input.node.addresses.push_back(Address::parse(word).value());
    if (what == "cluster") input.node.cluster_cidrs.push_back(Cidr::parse(word).value());
    if (what == "services") input.node.service_cidrs.push_back(Cidr::parse(word).value());
  }
}

struct Store {
  model::ClusterState& state;
  void operator()(model::Namespace object) const { state.namespaces[object.name] = std::move(object); }
  void operator()(model::Node object) const { state.nodes[object.name] = std::move(object); }
  void operator()(model::Pod object) const { state.pods[object.name] = std::move(object); }
  void operator()(model::Service object) const { state.services[object.name] = std::move(object); }
  void operator()(model::EndpointSlice object) const { state.slices[object.name] = std::move(object); }
  void operator()(model::ServiceCidr object) const { state.service_cidrs[object.name] = std::move(object); }
  void operator()(model::NetworkPolicy object) const { state.policies[object.name] = std::move(object); }
  void operator()(model::ClusterNetworkPolicy object) const {
    state.cluster_policies[object.name] = std::move(object);
  }
};

Input read_input(const std::filesystem::path& path) {
  Input input;
  const std::string text = read(path);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("#!")) read_directive(line, input);
  auto decoded = sources::decode(text, sources::Format::kYaml);
  EXPECT_TRUE(decoded.problems.empty());
  for (auto& each : decoded.objects) {
    EXPECT_TRUE(each.problems.empty() && each.object) << path << ":" << each.line;
    if (each.object) std::visit(Store{input.state}, std::move(*each.object));
  }
  return input;
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, CompilesToTheRecordedMaps) {
  const std::filesystem::path path = std::filesystem::path(BPFNET_GOLDEN_DIR) / GetParam();
  const Input input = read_input(path);
  PolicyNumbers numbers;
  const std::string compiled = render(compile_services(input.state, input.node, input.endpoints)) +
                               render(compile_policy(input.state, input.node, input.endpoints, numbers));
  auto recorded = path;
  recorded.replace_extension(".maps.txt");
  if (std::getenv("BPFNET_UPDATE_GOLDEN")) std::ofstream(recorded) << compiled;
  EXPECT_EQ(compiled, read(recorded)) << "run with BPFNET_UPDATE_GOLDEN=1 if the new output is right";
}

INSTANTIATE_TEST_SUITE_P(Files, Golden,
                         testing::Values("services.yaml", "services-edges.yaml", "policy.yaml",
                                         "cluster-policy.yaml"),
                         [](const auto& file) {
                           std::string name = file.param.substr(0, file.param.find('.'));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace bpfnet::compile
