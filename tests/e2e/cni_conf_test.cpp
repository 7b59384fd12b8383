// The conflist that the agent writes for the runtime: last, and as long as it can serve pods (C24).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "control/api/unix_client.h"
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

class CniConf : public testing::Test {
 protected:
  CniConf() : cluster_(cluster_options({"node-a"})) { node().stop_agent(); }
  Node& node() { return cluster_.node(0); }
  [[nodiscard]] std::string conflist() { return node().dir("net.d/10-bpfnet.conflist"); }
  std::vector<std::string> flags() {
    return {"--cni-conf", conflist(), "--cni-bin-dir", node().dir("cni-bin")};
  }
  bool written() {
    return eventually([&] { return fs::exists(conflist()); });
  }

  Cluster cluster_;
};

TEST_F(CniConf, ItWaitsForAddressesAndComesBack) {
  const std::string objects = read_text(node().dir("manifests/00-cluster.yaml"));
  NodeManifest bare{.name = "node-a", .addresses = {node().ip(Family::kIpv4), node().ip(Family::kIpv6)}};
  node().write_manifest("00-cluster", bare.yaml());
  node().start(flags());
  EXPECT_TRUE(eventually([&] {
    return node().log().find("Node node-a has no podCIDRs") != std::string::npos;
  })) << node().log();
  EXPECT_FALSE(fs::exists(conflist())) << "a runtime that reads it would make pods";
  node().apply("00-cluster", objects);
  ASSERT_TRUE(written()) << node().log();
  EXPECT_EQ(::access(node().dir("cni-bin/bpfnet-cni").c_str(), X_OK), 0)
      << "the plugin is there before it is named";

  // As a runtime uses it: the plugin that was installed, with what the conflist says of it.
  const json conf = json::parse(read_text(conflist()));
  json stdin_of_plugin = conf.at("plugins").at(0);
  stdin_of_plugin["cniVersion"] = conf.at("cniVersion");
  stdin_of_plugin["name"] = conf.at("name");
  const Netns pod(netns_name("conf"));
  const CniCall add{
      .command = "ADD", .container_id = "conf", .netns = pod.path(), .config = stdin_of_plugin.dump()};
  EXPECT_EQ(node().cni(add).status, 0);
  CniCall del = add;
  del.command = "DEL";
  EXPECT_EQ(node().cni(del).status, 0);

  // What somebody takes away is put back by the next comparison.
  fs::remove(conflist());
  const api::UnixClient client({.socket = node().socket(), .timeout = milliseconds(10000)});
  ASSERT_TRUE(client.post("/v1/resync", ""));
  EXPECT_TRUE(written());
  node().stop_agent();
  EXPECT_TRUE(fs::exists(conflist())) << "a restart is no reason to call the node unready";
}

TEST_F(CniConf, CleanupTakesItFirstAndLeavesThatOfOthers) {
  node().start(flags());
  ASSERT_TRUE(written());
  EXPECT_NE(node().cleanup(flags()), 0) << "an agent runs";
  EXPECT_TRUE(fs::exists(conflist())) << "nothing is touched";
  node().stop_agent();
  write_atomically(conflist(), R"({"name":"theirs","plugins":[{"type":"bridge"}]})");
  EXPECT_NE(node().cleanup(flags()), 0);
  EXPECT_THAT(read_text(node().dir("cleanup.log")), HasSubstr(conflist()));
  EXPECT_TRUE(fs::exists(conflist()));
  fs::remove(conflist());
  EXPECT_EQ(node().cleanup(flags()), 0) << read_text(node().dir("cleanup.log"));
  EXPECT_TRUE(fs::is_empty(node().dir("cni-bin")));
}

TEST_F(CniConf, OneThatStandsBeforeItIsNamed) {
  fs::create_directories(node().dir("net.d"));
  write_atomically(node().dir("net.d/05-other.conf"), "{}");
  node().start(flags());
  ASSERT_TRUE(written());
  EXPECT_THAT(node().log(), HasSubstr("05-other.conf stands before"));
}

}  // namespace
}  // namespace bpfnet::e2e
