#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace {

struct Output {
  int status = -1;
  std::string text;  ///< of both streams
};

Output bpfnetctl(const std::string& arguments) {
  Output output;
  FILE* pipe = popen(fmt::format("{} {} 2>&1", BPFNETCTL_BINARY, arguments).c_str(), "r");
  char buffer[4096];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.text.append(buffer, got);
  output.status = WEXITSTATUS(pclose(pipe));
  return output;
}

TEST(BpfnetctlHelp, IsWhatTheGoldenFileSays) {
  std::string help;
  for (const char* command : {"",
                              "status",
                              "endpoint",
                              "endpoint list",
                              "service",
                              "service list",
                              "flow",
                              "flow list",
                              "policy",
                              "policy list",
                              "policy show",
                              "policy verdict",
                              "policy diff",
                              "identity",
                              "identity list",
                              "drops",
                              "map",
                              "map list",
                              "map dump",
                              "apply",
                              "get",
                              "delete"}) {
    const Output output = bpfnetctl(fmt::format("{} --help", command));
    EXPECT_EQ(output.status, 0);
    help += fmt::format("$ bpfnetctl {}{}--help\n{}\n", command, *command ? " " : "", output.text);
  }
  const std::string path = BPFNET_GOLDEN_DIR "/bpfnetctl-help.txt";
  if (std::getenv("BPFNET_UPDATE_GOLDEN")) std::ofstream(path) << help;
  std::ostringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(help, golden.str()) << "run with BPFNET_UPDATE_GOLDEN=1 if the new help is right";
}

struct Misuse {
  const char* arguments;
  int status;
  const char* says;
};

class BpfnetctlMisuse : public testing::TestWithParam<Misuse> {};

TEST_P(BpfnetctlMisuse, IsToldWithTheWayOut) {
  const Output output = bpfnetctl(GetParam().arguments);
  EXPECT_EQ(output.status, GetParam().status) << output.text;
  EXPECT_NE(output.text.find(GetParam().says), std::string::npos) << output.text;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BpfnetctlMisuse,
    testing::Values(Misuse{"", 2, "subcommand is required"}, Misuse{"flow", 2, "subcommand is required"},
                    Misuse{"flow list --protocol tcp", 2, "--protocol"},
                    Misuse{"status --output xml", 2, "xml not in {table,json}"},
                    Misuse{"map dump", 2, "NAME"}, Misuse{"policy verdict a b", 2, "PORT/PROTO is required"},
                    Misuse{"policy verdict a b 80/tcp --bpffs /nonexistent", 2, "has bpfnetd run"},
                    Misuse{"policy show", 2, "POD is required"},
                    Misuse{"policy diff", 2, "--file is required"},
                    Misuse{"policy diff -f /nonexistent", 2, "/nonexistent: open: ENOENT"},
                    Misuse{"policy diff -f /dev/null --socket /nonexistent", 2, "no agent answers at"},
                    Misuse{"status --bpffs /nonexistent", 1, "has bpfnetd run with --bpffs /nonexistent?"}));

}  // namespace
