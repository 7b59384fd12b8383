// Every drop reason has a test that meets it: the last word of a whole run of this binary.
#include <gtest/gtest.h>

#include "maps/labels.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

/// Reasons which no packet can bring about in a test, each with why.
const std::map<int, std::string>& unreachable() {
  static const std::map<int, std::string> reasons = {
      {DROP_NONE, "not a drop"},
      {DROP_REWRITE_FAILED, "a helper fails only when the kernel cannot copy a shared packet"},
      {DROP_NO_MEMORY, "the kernel has memory for the few flows of a test"},
      {DROP_NO_NEIGHBOUR,
       "the next hop's address is asked for by redirect_neigh, which the test run does not execute"},
  };
  return reasons;
}

class EveryReason : public testing::Environment {
 public:
  void TearDown() override {
    const auto* unit = testing::UnitTest::GetInstance();
    const bool whole = GTEST_FLAG_GET(filter) == "*" && unit->test_to_run_count() == unit->total_test_count();
    if (!whole || seen_drop_reasons().empty()) return;
    for (const auto& reason : maps::drop_reasons()) {
      const auto number = static_cast<int>(reason.number);
      if (unreachable().contains(number)) continue;
      EXPECT_TRUE(seen_drop_reasons().contains(number)) << "no test meets drop reason " << reason.label;
    }
  }
};

const auto* const kEnvironment = testing::AddGlobalTestEnvironment(new EveryReason);

}  // namespace
}  // namespace bpfnet::test
