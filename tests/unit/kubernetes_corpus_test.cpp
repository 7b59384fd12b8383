// Replays the fuzz corpus, so that what the fuzzer found once is tested in every build.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/fuzz/watch_check.h"

namespace bpfnet::kubernetes {
namespace {

TEST(WatchCorpus, EveryInputHolds) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BPFNET_WATCH_CORPUS)) {
    std::stringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    SCOPED_TRACE(entry.path().filename().string());
    check_watch(text.view());
    ++count;
  }
  EXPECT_GT(count, 0u);
}

}  // namespace
}  // namespace bpfnet::kubernetes
