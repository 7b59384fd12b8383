#pragma once

#include <functional>
#include <random>

#include "tests/e2e/churn_specification.h"

namespace bpfnet::e2e::churn {

/// One manifest file changes, and the state is this.
struct Step {
  World world;
  std::string what;
  std::string subject;  ///< the service
};

/// Random changes of services such as people and controllers make, each a few steps. Addresses and ports
/// never belong to two Services at once.
class Changes {
 public:
  /// `backends`: what slices are made of. `clients`: whom source ranges may name.
  Changes(uint64_t seed, std::vector<std::string> nodes, std::vector<BackendManifest> backends,
          std::vector<Client> clients);

  /// The next change of `world`; never empty.
  std::vector<Step> next(const World& world);

 private:
  using Steps = std::vector<Step>;
  using Change = Steps (Changes::*)(const World&);
  Steps create(const World& world);
  Steps remove(const World& world);
  Steps replace(const World& world);
  Steps other_backends(const World& world);
  Steps one_backend(const World& world);
  Steps target_port(const World& world);
  Steps service_port(const World& world);
  Steps protocol(const World& world);
  Steps policies(const World& world);
  Steps affinity(const World& world);
  Steps type(const World& world);
  Steps ranges(const World& world);
  Steps pass_address(const World& world);
  Steps pass_node_port(const World& world, const std::string& from, const std::string& to);
  Steps hints(const World& world);
  Steps other_proxy(const World& world);

  /// Changes one Service by `edit`, which gives the words for it.
  Steps edit_service(const World& world, const std::function<std::string(ServiceManifest&)>& edit);
  /// Changes the first pair of slices of a service; further ones follow it.
  Steps edit_slices(const World& world, const std::function<std::string(Slices&)>& edit);

  ServiceManifest random_service(const World& world, const std::string& name);
  void random_type(const World& world, ServiceManifest& service);
  std::vector<Slices> random_slices();
  std::vector<Slices> with_companion(const Slices& first);
  std::string random_condition(BackendManifest& backend);
  std::optional<std::string> some_service(const World& world);
  /// One of the numbers below `count`.
  size_t below(size_t count) { return std::uniform_int_distribution<size_t>(0, count - 1)(random_); }
  bool chance(int percent) { return below(100) < static_cast<size_t>(percent); }

  std::mt19937_64 random_;
  std::vector<std::string> nodes_;
  std::vector<BackendManifest> backends_;
  std::vector<Client> clients_;
};

}  // namespace bpfnet::e2e::churn
