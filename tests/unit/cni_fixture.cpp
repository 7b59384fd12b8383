#include "tests/unit/cni_fixture.h"

#include <fstream>

#include "control/cni/handlers.h"
#include "loader/netlink.h"

namespace bpfnet::cni::test {
namespace {

/// The local API without its socket.
class DirectLink final : public AgentLink {
 public:
  explicit DirectLink(EndpointManager* manager) : manager_(manager) {}
  Result<api::UnixResponse> post(std::string_view call, std::string_view body) override {
    if (manager_ == nullptr) return fail_errno(ECONNREFUSED, "agent");
    const ApiReply reply = serve(*manager_, call, body);
    return api::UnixResponse{reply.http_status, reply.body};
  }
  Result<api::UnixResponse> get(std::string_view call) override {
    if (manager_ == nullptr) return fail_errno(ECONNREFUSED, "agent");
    const ApiReply reply = serve(*manager_, call.substr(0, call.find('?')), {},
                                 call.find("ipam=delegated") == std::string_view::npos ? "" : "delegated");
    return api::UnixResponse{reply.http_status, reply.body};
  }

 private:
  EndpointManager* manager_;
};

}  // namespace

std::filesystem::path FakeDatapath::file(const AttachmentKey& key) const {
  return directory_ / fmt::format("{}.{}", key.container_id, key.ifname);
}

Status FakeDatapath::publish(const LiveEndpoint& endpoint) {
  if (endpoint.host_ifindex <= 0 || endpoint.record.ips.empty()) return fail("endpoint is not complete");
  std::ofstream(file(endpoint.record.key)) << endpoint.host_ifindex;
  if (refuse_publish) return fail("map policies: update: E2BIG");
  return ok();
}

Status FakeDatapath::withdraw(const ipam::EndpointRecord& endpoint) {
  std::filesystem::remove(file(endpoint.key));
  return ok();
}

Status FakeDatapath::verify(const LiveEndpoint& endpoint) {
  int ifindex = 0;
  std::ifstream(file(endpoint.record.key)) >> ifindex;
  if (ifindex != endpoint.host_ifindex) return fail("map endpoints: entry {} is gone", endpoint.record.index);
  return ok();
}

size_t FakeDatapath::published() const {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
}

NodeTest::NodeTest()
    : directory_(std::filesystem::temp_directory_path() / fmt::format("bn-cni-{}", getpid())) {
  std::filesystem::remove_all(directory_);
  std::filesystem::create_directories(directory_ / "maps");
}

NodeTest::~NodeTest() {
  stop_agent();
  inside_.reset();
  std::filesystem::remove_all(directory_);
}

void NodeTest::SetUp() {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: network namespaces";
  node_ = loader::new_netns().value();
  inside_.emplace(loader::NetnsGuard::enter(node_.get()).value());
  restart_agent();
}

void NodeTest::stop_agent() {
  manager_.reset();
  datapath_.reset();
  allocator_.reset();
  store_.reset();
}

void NodeTest::restart_agent() {
  stop_agent();
  store_.emplace(ipam::Store::open(directory_ / "state.db").value());
  allocator_.emplace(*store_);
  allocator_->set_pools({Cidr::parse("10.7.0.0/24").value(), Cidr::parse("fd00:7::/112").value()});
  datapath_.emplace(directory_ / "maps");
  manager_ = EndpointManager::open({directory_ / "deletes", 1500}, *store_, *allocator_, *datapath_).value();
}

PluginOutcome NodeTest::plugin(const char* command, const std::string& container, const std::string& netns,
                               nlohmann::json conf, const Variables& extra) {
  Variables variables = {{"CNI_COMMAND", command},
                         {"CNI_CONTAINERID", container},
                         {"CNI_NETNS", netns},
                         {"CNI_IFNAME", "eth0"},
                         {"CNI_PATH", "/usr/lib/cni"}};
  for (const auto& [name, value] : extra) variables[name] = value;
  if (!conf.contains("cniVersion")) conf["cniVersion"] = "1.1.0";
  if (!conf.contains("name")) conf["name"] = "pods";
  if (!conf.contains("type")) conf["type"] = "bpfnet-cni";
  conf["stateDir"] = directory_.string();
  return run_plugin(variables, conf.dump(),
                    [this](const NetConf&) { return std::make_unique<DirectLink>(manager_.get()); });
}

nlohmann::json NodeTest::added(const std::string& container, const Pod& pod, nlohmann::json conf,
                               const Variables& extra) {
  const PluginOutcome outcome = plugin("ADD", container, pod.path(), std::move(conf), extra);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  return nlohmann::json::parse(outcome.output, nullptr, false);
}

std::string NodeTest::devices(int netns) {
  std::string names;
  auto netlink = loader::Netlink::open(netns).value();
  const auto links = netlink.links().value();
  for (const loader::Link& link : links) {
    if (!link.is_loopback()) names += link.name + " ";
  }
  return names;
}

std::string NodeTest::leftovers() {
  std::string left = devices(node_.get());
  const auto leases = store_->leases().value();
  for (const auto& lease : leases) left += "lease:" + lease.address.to_string() + " ";
  const auto endpoints = store_->endpoints().value();
  for (const auto& endpoint : endpoints) left += "endpoint:" + endpoint.key.to_string() + " ";
  if (datapath_->published() != 0) left += fmt::format("maps:{} ", datapath_->published());
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator(directory_ / "deletes", none)) {
    left += file.path().filename().string() + " ";
  }
  return left;
}

int code_of(const PluginOutcome& outcome) {
  if (outcome.exit_code == 0) return 0;
  return nlohmann::json::parse(outcome.output).at("code").get<int>();
}

std::string message_of(const PluginOutcome& outcome) {
  return outcome.exit_code == 0 ? "" : nlohmann::json::parse(outcome.output).at("msg").get<std::string>();
}

}  // namespace bpfnet::cni::test
