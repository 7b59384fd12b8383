// The rules are those of kube-proxy in structure: text by golden files, and what must hold at any size.
// BENCH_REWRITE_GOLDEN=1 in the environment writes the golden files anew.
#include "bench/kube_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace bpfnet::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(BENCH_GOLDEN) + "/" + name;
  if (std::getenv("BENCH_REWRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::stringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(text, golden.str()) << path;
}

std::vector<std::string> lines_with(const std::string& text, const std::string& what) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (line.find(what) != std::string::npos) result.push_back(line);
  return result;
}

TEST(KubeProxyRules, IptablesOfTwoServices) {
  expect_golden("kube-proxy.iptables.txt", iptables_rules(make_services(2, 3)));
}

TEST(KubeProxyRules, NftablesOfTwoServices) {
  expect_golden("kube-proxy.nftables.txt", nftables_rules(make_services(2, 3)));
}

TEST(KubeProxyRules, ChainsOfManyServicesHaveNamesOfTheirOwn) {
  const std::string rules = iptables_rules(make_services(2000, 3));
  std::set<std::string> chains;
  for (const char* kind : {":KUBE-SVC-", ":KUBE-SEP-"})
    for (const std::string& line : lines_with(rules, kind)) EXPECT_TRUE(chains.insert(line).second) << line;
  EXPECT_EQ(chains.size(), 2000U + 6000U) << "services and endpoints";
}

TEST(KubeProxyRules, LargeClusterLeavesOutTheCommentsOfChains) {
  const std::string small = iptables_rules(make_services(250, 4));
  const std::string large = iptables_rules(make_services(251, 4));
  EXPECT_THAT(lines_with(small, "-A KUBE-SEP-").front(), HasSubstr("--comment"));
  EXPECT_THAT(lines_with(large, "-A KUBE-SEP-").front(), Not(HasSubstr("--comment")));
  EXPECT_THAT(lines_with(large, "-A KUBE-SERVICES ").front(), HasSubstr("--comment"));
}

TEST(KubeProxyRules, EveryServiceIsOneElementOfTheVerdictMap) {
  const std::string rules = nftables_rules(make_services(50, 2));
  EXPECT_EQ(lines_with(rules, "add element ip kube-proxy service-ips").size(), 50U);
  EXPECT_EQ(lines_with(rules, "numgen random mod 2 vmap").size(), 50U);
  EXPECT_EQ(lines_with(rules, " dnat to ").size(), 100U);
}

}  // namespace
}  // namespace bpfnet::bench
