// bpfnetd --cleanup-kube-proxy (S62): what a kube-proxy left goes, what others have stays.
#include "bench/kube_proxy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

namespace fs = std::filesystem;

/// Of others on the host, kubelet among them.
constexpr const char* kForeign =
    "*mangle\n"
    ":KUBE-KUBELET-CANARY - [0:0]\n"
    ":KUBE-IPTABLES-HINT - [0:0]\n"
    "COMMIT\n"
    "*filter\n"
    ":KUBE-FIREWALL - [0:0]\n"
    ":mine - [0:0]\n"
    "-A INPUT -j KUBE-FIREWALL\n"
    "-A INPUT -p tcp -m tcp --dport 22 -m comment --comment \"not -j KUBE-SERVICES\" -j mine\n"
    "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\n"
    "-A mine -j ACCEPT\n"
    "COMMIT\n"
    "*nat\n"
    ":mine - [0:0]\n"
    "-A POSTROUTING -p udp -m comment --comment \"a \\\"quote\\\"\" -j MASQUERADE\n"
    "-A PREROUTING -p udp -j mine\n"
    "COMMIT\n";

/// What kube-proxy writes for IPv6; bench/kube_proxy makes the rules of IPv4.
constexpr const char* kIpv6 =
    "*mangle\n"
    ":KUBE-PROXY-CANARY - [0:0]\n"
    "COMMIT\n"
    "*nat\n"
    ":KUBE-SERVICES - [0:0]\n"
    ":KUBE-MARK-MASQ - [0:0]\n"
    ":KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]\n"
    "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n"
    "-A KUBE-SERVICES -d fd00:10:96::1/128 -p tcp -m tcp --dport 443 -j KUBE-SVC-ERIFXISQEP7F7OF4\n"
    "-A KUBE-SVC-ERIFXISQEP7F7OF4 -j KUBE-MARK-MASQ\n"
    "COMMIT\n";

const std::vector<std::string> kVariants = {"iptables-legacy", "iptables-nft", "ip6tables-legacy",
                                            "ip6tables-nft"};

class KubeProxyLeftovers : public testing::Test {
 protected:
  KubeProxyLeftovers() : netns_(netns_name("leftovers")), dir_(cluster_options().run_root + "-tools") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~KubeProxyLeftovers() override { fs::remove_all(dir_); }

  [[nodiscard]] Output tool(const std::vector<std::string>& argv, const std::string& input = "") const {
    return run({.argv = argv, .input = input, .env = {}, .netns = netns_.fd()});
  }
  void restore(const std::string& variant, const std::string& rules) const {
    const Output done = tool({variant + "-restore", "--noflush"}, rules);
    ASSERT_EQ(done.status, 0) << variant << ": " << done.err;
  }
  /// Every rule of the namespace, without the tools' times and counters.
  [[nodiscard]] std::string rules() const {
    std::string all;
    for (const std::string& variant : kVariants) {
      std::istringstream lines(tool({variant + "-save"}).out);
      for (std::string line; std::getline(lines, line);)
        if (!line.starts_with("#")) all += variant + ": " + line.substr(0, line.find('[')) + "\n";
    }
    return all + tool({"nft", "list", "tables"}).out;
  }
  void write_foreign_rules() const {
    for (const std::string& variant : kVariants) restore(variant, kForeign);
    ASSERT_EQ(tool({"nft", "-f", "-"},
                   "table ip mine { chain c { type filter hook input priority 0; }; }\n"
                   "table inet kube-proxy { }\n")
                  .status,
              0);
  }
  void write_leftovers() const {
    const auto services = bench::make_services(20, 3);
    std::istringstream lines(bench::iptables_rules(services));
    std::string ipv4;
    for (std::string line; std::getline(lines, line);)  // that one is kubelet's
      if (line.find("KUBE-FIREWALL") == std::string::npos) ipv4 += line + "\n";
    for (const std::string variant : {"iptables-legacy", "iptables-nft"}) restore(variant, ipv4);
    for (const std::string variant : {"ip6tables-legacy", "ip6tables-nft"}) restore(variant, kIpv6);
    ASSERT_EQ(tool({"nft", "-f", "-"}, bench::nftables_rules(services) + "table ip6 kube-proxy { }\n").status,
              0);
  }
  /// `path`: in place of PATH.
  [[nodiscard]] Output cleanup(const std::string& path = std::getenv("PATH")) const {
    return run({.argv = {built_binaries().bpfnetd, "--cleanup-kube-proxy"},
                .input = "",
                .env = {{"PATH", path}},
                .netns = netns_.fd()});
  }

  Netns netns_;
  std::string dir_;
};

TEST_F(KubeProxyLeftovers, GoAndForeignRulesStay) {
  write_foreign_rules();
  const std::string before = rules();
  write_leftovers();
  ASSERT_NE(rules(), before);
  for (const char* time : {"first", "second"}) {
    const Output done = cleanup();
    EXPECT_EQ(done.status, 0) << time << ": " << done.err;
    EXPECT_EQ(rules(), before) << time;
  }
}

// On a host that never had any nothing comes into being.
TEST_F(KubeProxyLeftovers, NoneIsNoError) {
  const Output done = cleanup();
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(netns_.in([] { return read_text("/proc/thread-self/net/ip_tables_names"); }), "");
  EXPECT_EQ(tool({"nft", "list", "tables"}).out, "");
}

// What can be done is done, and the rest is told.
TEST_F(KubeProxyLeftovers, AToolThatFailsIsAnError) {
  write_foreign_rules();
  const std::string before = rules();
  write_leftovers();
  const std::string stub = dir_ + "/iptables-nft-restore";
  write_atomically(stub, "#!/bin/sh\necho out of rules >&2\nexit 4\n");
  fs::permissions(stub, fs::perms::owner_all);
  const Output done = cleanup(dir_ + ":" + std::getenv("PATH"));
  EXPECT_EQ(done.status, 1);
  EXPECT_NE(done.err.find("`iptables-nft-restore --noflush --wait=10` ended with 4: out of rules"),
            std::string::npos)
      << done.err;
  const std::string after = rules();
  EXPECT_NE(after.find("iptables-nft: :KUBE-SERVICES"), std::string::npos);
  EXPECT_EQ(after.find("iptables-legacy: :KUBE-SERVICES"), std::string::npos) << after;
  EXPECT_EQ(after.find("table ip kube-proxy"), std::string::npos) << after;
  EXPECT_EQ(cleanup().status, 0);
  EXPECT_EQ(rules(), before);
}

TEST_F(KubeProxyLeftovers, AMissingToolIsAnErrorThatNamesItsPackage) {
  write_leftovers();
  for (const std::string variant : {"iptables-nft", "ip6tables-nft"})
    for (const std::string part : {"-save", "-restore"})
      fs::create_symlink("/usr/sbin/" + variant + part, dir_ + "/" + variant + part);
  const Output done = cleanup(dir_);
  EXPECT_EQ(done.status, 1);
  EXPECT_NE(done.err.find("nft: not installed, so what it would show was not looked for (Debian: apt-get "
                          "install nftables)"),
            std::string::npos)
      << done.err;
  EXPECT_NE(done.err.find("ip6tables-legacy-save: not installed"), std::string::npos) << done.err;
  const std::string after = rules();
  EXPECT_EQ(after.find("iptables-nft: :KUBE"), std::string::npos) << after;
  EXPECT_NE(after.find("iptables-legacy: :KUBE-SERVICES"), std::string::npos) << after;
}

// The one part may fail, the other is done all the same.
TEST_F(KubeProxyLeftovers, GoTogetherWithWhatTheAgentMade) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  const auto nft = [&](const std::vector<std::string>& argv, const std::string& input = "") {
    return run({.argv = argv, .input = input, .env = {}, .netns = node.netns().fd()});
  };
  ASSERT_EQ(nft({"nft", "-f", "-"}, "table ip kube-proxy { }\n").status, 0);
  EXPECT_NE(node.cleanup({"--cleanup-kube-proxy"}), 0) << "an agent runs";
  EXPECT_EQ(nft({"nft", "list", "tables"}).out, "");
  EXPECT_TRUE(node.api("/v1/status").at("ready")) << "it is not touched";
  ASSERT_EQ(nft({"nft", "-f", "-"}, "table ip kube-proxy { }\n").status, 0);
  node.stop_agent();
  EXPECT_EQ(node.cleanup({"--cleanup-kube-proxy"}), 0) << read_text(node.dir("cleanup.log"));
  EXPECT_EQ(nft({"nft", "list", "tables"}).out, "");
  EXPECT_EQ(node.netns().ip_show("link show").find("bpfnet"), std::string::npos);
}

}  // namespace
}  // namespace bpfnet::e2e
