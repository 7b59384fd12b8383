#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

#include "base/shared_text.h"

namespace bpfnet {
namespace {

TEST(SharedText, CopiesAreTheSameText) {
  const SharedText a("kube-system");
  EXPECT_TRUE(a.unshared());
  const SharedText b = a;  // NOLINT(performance-unnecessary-copy-initialization)
  EXPECT_EQ(a.view().data(), b.view().data());
  EXPECT_FALSE(a.unshared());
  const SharedText c("kube-system");
  EXPECT_NE(a.view().data(), c.view().data());
  EXPECT_EQ(a, c);
  EXPECT_EQ(a, "kube-system");
  EXPECT_EQ(a, std::string("kube-system"));
}

TEST(SharedText, MovesAndAssignsLikeAString) {
  SharedText a("one");
  SharedText b("two");
  b = std::move(a);
  EXPECT_EQ(b, "one");
  EXPECT_TRUE(b.unshared());
  b = b;  // NOLINT(clang-diagnostic-self-assign-overloaded)
  EXPECT_EQ(b.str(), "one");
  b = "";
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b, SharedText());
  EXPECT_EQ(b.size(), 0u);
}

TEST(SharedText, IsOrderedAsText) {
  const std::set<SharedText> names = {"b", "", "ab", "a"};
  std::string joined;
  for (const SharedText& each : names) joined += each.str() + ".";
  EXPECT_EQ(joined, ".a.ab.b.");
}

TEST(SharedText, KeepsBytesOfEveryKind) {
  const std::string bytes("a\0b", 3);
  EXPECT_EQ(SharedText(bytes).str(), bytes);
  EXPECT_EQ(fmt::format("{:>5}|", SharedText("ab")), "   ab|");
}

TEST(SharedText, IsCopiedOnSeveralThreads) {
  SharedText shared("one for all");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([copy = shared] {
      for (int n = 0; n < 20000; ++n) {
        const SharedText another = copy;
        ASSERT_EQ(another.size(), 11u);
      }
    });
  for (std::thread& each : threads) each.join();
  threads.clear();
  EXPECT_TRUE(shared.unshared());
}

}  // namespace
}  // namespace bpfnet
