// The generated manifests say what the benchmarks believe: they are read by the agent's own reader.
#include "bench/population.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "bench/policy_population.h"
#include "control/sources/files.h"

namespace bpfnet::bench {
namespace {

class PopulationRead : public testing::TestWithParam<ManifestFormat> {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(testing::TempDir()) /
                 ("bench-population-" + std::to_string(static_cast<int>(GetParam())));
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void write(const ManifestFiles& files, size_t file, size_t service = SIZE_MAX, size_t used = SIZE_MAX) {
    std::ofstream(directory_ / files.name(file)) << files.text(file, service, used);
  }

  std::filesystem::path directory_;
};

TEST_P(PopulationRead, EveryServiceHasItsEndpoints) {
  const ManifestFiles files(make_services(7, 3), 2, GetParam());
  ASSERT_EQ(files.count(), 4U);
  for (size_t i = 0; i < files.count(); i++) write(files, i);
  auto source = sources::FileSource::open(directory_);
  ASSERT_TRUE(source);
  EXPECT_TRUE(source->problems().empty());
  ASSERT_EQ(source->state().services.size(), 7U);
  ASSERT_EQ(source->state().slices.size(), 7U);
  std::set<Address> backends;
  for (const auto& [name, slice] : source->state().slices) {
    EXPECT_EQ(slice.endpoints.size(), 3U);
    for (const auto& endpoint : slice.endpoints) backends.insert(endpoint.ip);
  }
  EXPECT_EQ(backends.size(), 21U) << "no two services share a backend";
}

TEST_P(PopulationRead, LoneChangeTouchesOneSliceOfOneFile) {
  const ManifestFiles files(make_services(7, 3), 2, GetParam());
  for (size_t i = 0; i < files.count(); i++) write(files, i);
  auto source = sources::FileSource::open(directory_);
  ASSERT_TRUE(source);
  (void)source->take_changes();
  write(files, files.file_of(4), 4, 2);
  ASSERT_TRUE(source->poll(std::chrono::seconds(5)));
  const auto changes = source->take_changes();
  EXPECT_TRUE(changes.services.empty());
  ASSERT_EQ(changes.slices.size(), 1U);
  EXPECT_EQ(source->state().slices.at(*changes.slices.begin()).endpoints.size(), 2U);
}

INSTANTIATE_TEST_SUITE_P(Formats, PopulationRead,
                         testing::Values(ManifestFormat::kYaml, ManifestFormat::kJson), [](const auto& each) {
                           return each.param == ManifestFormat::kYaml ? "Yaml" : "Json";
                         });

TEST(PolicyPopulationRead, IsWhatItsNumbersSay) {
  const auto directory = std::filesystem::path(testing::TempDir()) / "bench-policy-population";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directory(directory);
  const PolicyPopulation population(
      {.namespaces = 10, .pods = 200, .policies = 400, .identities = 40, .local = 5, .per_file = 8}, "here");
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(directory / name) << text;
  };
  write("namespaces.yaml", population.namespaces_yaml());
  for (size_t i = 0; i < population.pod_files(); ++i)
    write(PolicyPopulation::pod_file_name(i), population.pod_file(i));
  for (size_t i = 0; i < population.policy_files(); ++i)
    write(PolicyPopulation::policy_file_name(i), population.policy_file(i));
  auto source = sources::FileSource::open(directory);
  ASSERT_TRUE(source);
  EXPECT_TRUE(source->problems().empty());
  const auto& state = source->state();
  EXPECT_EQ(state.pods.size(), 200U);
  EXPECT_EQ(state.policies.size(), 400U);
  std::set<std::pair<std::string, model::Labels>> identities;
  size_t local = 0;
  for (const auto& [name, pod] : state.pods) {
    identities.insert({name.ns, pod.labels});
    local += pod.node_name == "here";
  }
  EXPECT_EQ(identities.size(), 40U);
  EXPECT_EQ(local, 5U);
  const size_t pod = population.local_pods().back();
  const size_t policy = population.policy_of(pod);
  ASSERT_LT(policy, 400U);
  (void)source->take_changes();
  const size_t file = population.file_of(policy);
  write(PolicyPopulation::policy_file_name(file), population.policy_file(file, policy, 1));
  ASSERT_TRUE(source->poll(std::chrono::seconds(5)));
  const auto changes = source->take_changes();
  ASSERT_EQ(changes.policies.size(), 1U);
  const auto& changed = state.policies.at(*changes.policies.begin());
  const BenchPod& each = population.pods()[pod];
  EXPECT_EQ(changed.name.ns, each.ns);
  EXPECT_TRUE(changed.pods.matches(state.pods.at({each.ns, each.name}).labels));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace bpfnet::bench
