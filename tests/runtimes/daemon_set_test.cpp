// The DaemonSets of deploy/kubernetes on a node, run by containerd: that their mounts and rights are enough,
// that pods get a network by nothing else, and that nothing is left of it.
#include "tests/runtimes/daemon_set.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/runtimes/runtimes.h"

namespace bpfnet::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

/// A probe of kubelet: the status code of a GET, on the node.
std::string probe(const Node& node, const std::string& path) {
  const std::string ask =
      fmt::format("printf 'GET {} HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 127.0.0.1 10256", path);
  const std::string answer = run({.argv = {"sh", "-c", ask}, .netns = node.netns().fd()}).out;
  return answer.substr(0, answer.find('\r'));
}

/// The agent's image: that of scripts/test-image where BPFNET_AGENT_IMAGE names it, else one of this build's
/// programs.
void import_agent_image(const Node& node, const Containerd& runtime) {
  if (const char* built = std::getenv("BPFNET_AGENT_IMAGE"); built != nullptr && *built != '\0')
    return runtime.import(built, agent_image_name());
  const std::string file = node.dir("agent.tar");
  check_run(
      {.argv = {BPFNET_RUNTIMES_DIR "/image", file, agent_image_name(), BPFNETD_BINARY, BPFNET_CNI_BINARY}});
  runtime.import(file);
}

TEST(DaemonSet, ANodeGetsItsNetworkAndLosesIt) {
  Cluster cluster(runtime_cluster({"node-d"}));
  Node& node = cluster.node(0);
  // The agent that the cluster has started goes: here the pod brings its own.
  node.stop_agent();
  ASSERT_EQ(node.cleanup(), 0);
  const std::string plugins = DaemonSetPod::host_path(node, "/opt/cni/bin");
  const std::string configurations = DaemonSetPod::host_path(node, "/etc/cni/net.d");
  fs::create_directories(plugins);
  fs::create_directories(configurations);
  fs::create_symlink("/usr/lib/cni/loopback", plugins + "/loopback");
  // As on nodes by Kubespray: the runtime's directories are another user's, and root has no right by its
  // number.
  for (const std::string& directory : {plugins, configurations}) {
    fs::permissions(directory, fs::perms{0755});
    ASSERT_EQ(::chown(directory.c_str(), 997, 0), 0) << directory;
  }
  Containerd runtime(node, plugins, configurations);
  import_agent_image(node, runtime);
  EXPECT_FALSE(runtime.network_ready());
  const std::string before = node.netns().ip_show("link show");

  {
    DaemonSetPod agent(node, runtime, "bpfnet");
    ASSERT_TRUE(eventually([&] { return probe(node, "/readyz") == "HTTP/1.1 200 OK"; }, milliseconds(20000)))
        << agent.log("agent");
    for (const char* path : {"/livez", "/healthz"}) EXPECT_EQ(probe(node, path), "HTTP/1.1 200 OK") << path;
    ASSERT_TRUE(eventually([&] { return runtime.network_ready(); })) << agent.log("agent");
    EXPECT_THAT(agent.log("agent"), Not(HasSubstr(" warning "))) << "it lacks something";
    EXPECT_THAT(agent.log("agent"), HasSubstr("sockets: on"));

    const CriPod pod(runtime, "default", "web",
                     {{"port_mappings", {{{"host_port", 18400}, {"container_port", CriPod::kPort}}}}});
    const Host& client = cluster.network().client();
    const auto served = [&](Family family) {
      return ask_from(client.netns(), {node.ip(family), 18400}) == answer_of("web", client.ip(family));
    };
    for (const Family family : kFamilies) EXPECT_TRUE(served(family));
    EXPECT_EQ(agent.stop("agent"), 0) << agent.log("agent");
    for (const Family family : kFamilies)
      EXPECT_TRUE(served(family)) << "the datapath goes on without the agent";
  }

  const DaemonSetPod removal(node, runtime, "bpfnet-removal");
  EXPECT_FALSE(runtime.network_ready());
  EXPECT_EQ(node.netns().ip_show("link show"), before);
  EXPECT_FALSE(fs::exists(configurations + "/05-bpfnet.conflist"));
  EXPECT_FALSE(fs::exists(plugins + "/bpfnet-cni"));
  EXPECT_TRUE(fs::is_empty(DaemonSetPod::host_path(node, "/var/lib/bpfnet")));
  EXPECT_FALSE(fs::exists("/sys/fs/bpf/bpfnet"));
  EXPECT_THAT(read_text("/proc/self/mountinfo"), Not(HasSubstr("/run/bpfnet/cgroup")));
}

}  // namespace
}  // namespace bpfnet::e2e
