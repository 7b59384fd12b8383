// The inputs of the fuzz target, in every build.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/fuzz/etcd_check.h"

namespace bpfnet::etcd {
namespace {

TEST(EtcdCorpus, HoldsWhateverTheBytes) {
  size_t inputs = 0;
  for (const auto& file : std::filesystem::directory_iterator(BPFNET_ETCD_CORPUS)) {
    std::ostringstream text;
    text << std::ifstream(file.path()).rdbuf();
    const std::string whole = text.str();
    check_etcd(whole);
    for (size_t cut = 0; cut < whole.size(); cut += 13) check_etcd(std::string_view(whole).substr(0, cut));
    ++inputs;
  }
  EXPECT_GE(inputs, 7U);
}

}  // namespace
}  // namespace bpfnet::etcd
