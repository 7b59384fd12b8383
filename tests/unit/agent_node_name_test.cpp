#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <string_view>

#include "control/agent/options.h"

namespace bpfnet::agent {
namespace {

// S9: in a child, so that the name goes with it.
TEST(NodeName, S9_TheHostNameInLowerCase) {
  if (geteuid() != 0) GTEST_SKIP() << "a host name of one's own needs root";
  constexpr std::string_view kName = "Node-A.Example";
  EXPECT_EXIT(
      {
        const bool named = unshare(CLONE_NEWUTS) == 0 && sethostname(kName.data(), kName.size()) == 0;
        _exit(!named ? 1 : default_node_name() == "node-a.example" ? 0 : 2);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace bpfnet::agent
