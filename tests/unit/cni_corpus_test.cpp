// Every input the fuzzer was given or has found, in every build.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/fuzz/cni_check.h"

namespace bpfnet::cni {
namespace {

TEST(CniCorpus, EveryInputHoldsAndSoDoItsPrefixes) {
  int inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BPFNET_CNI_CORPUS)) {
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string input = text.str();
    for (size_t length = 0; length <= input.size(); ++length)
      check_cni(std::string_view(input).substr(0, length));
    ++inputs;
  }
  EXPECT_GT(inputs, 0);
}

}  // namespace
}  // namespace bpfnet::cni
