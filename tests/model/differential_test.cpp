// Random nodes, random packets and random changes through the model and through the programs: any difference
// in verdict, reason, tuple or flow table is a bug in one of them.
//
// BPFNET_DIFF_SCENARIOS and BPFNET_DIFF_SEED change how many scenarios run and the first seed (CI: 60, 1).
#include <cstdlib>

#include "maps/convert.h"
#include "tests/model/scenario.h"
#include "tests/support/fixture.h"

namespace bpfnet::model_node {
namespace {

constexpr int kSteps = 120;

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Differential : public test::DatapathFixture {
 protected:
  static void run(test::Node& node);
};

void Differential::run(test::Node& node) {
  const uint64_t first = from_environment("BPFNET_DIFF_SEED", 1);
  const uint64_t count = from_environment("BPFNET_DIFF_SCENARIOS", 60);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Scenario scenario(node, GetParam(), seed);
    for (int step = 0; step < kSteps; ++step) {
      const std::string difference = scenario.step();
      ASSERT_TRUE(difference.empty()) << difference;
    }
  }
}

TEST_P(Differential, ModelAndProgramsAgree) {
  run(node());
}

TEST_P(Differential, ModelAndProgramsAgreeWithAnOverlay) {
  datapath_config config = test::default_config();
  config.overlay_port = maps::to_network(4789);
  config.overlay_vni = 1;
  run(test::pooled_node(1, config));
}

INSTANTIATE_FAMILIES(Differential);

}  // namespace
}  // namespace bpfnet::model_node
