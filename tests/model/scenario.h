#pragma once

#include <deque>
#include <random>
#include <string>

#include "tests/model/model.h"
#include "tests/support/node.h"

namespace bpfnet::model_node {

/// One random node and what happens on it, on the model and on the programs alike.
class Scenario {
 public:
  /// `node` is reset; everything follows from `seed`.
  Scenario(test::Node& node, Family family, uint64_t seed);

  /// One event: a packet, or a change of pods, policies or services. Empty, or what differs, decoded, with
  /// the events that led there.
  std::string step();

 private:
  uint64_t random(uint64_t below) { return random_() % below; }
  bool chance(uint64_t percent) { return random(100) < percent; }
  template <typename C>
  auto& pick(C& choices) {
    return *std::next(choices.begin(), static_cast<std::ptrdiff_t>(random(choices.size())));
  }

  void make_policies();
  void make_services();
  void write_service(Service& service);
  std::vector<Backend> random_backends();
  void change_something();
  Arrival random_arrival();
  Arrival continued(const Tuple& tuple);
  Arrival direct(const Tuple& answer);
  Arrival fresh();
  std::string send(const Arrival& arrival);
  [[nodiscard]] test::Packet packet_of(const Arrival& arrival) const;
  static std::string compare_policy(const test::Outcome& run, bool told, const Decision& want);
  [[nodiscard]] std::string compare_tables() const;
  [[nodiscard]] std::string report(const std::string& difference) const;

  /// Outside of the service range, and of no node.
  [[nodiscard]] Address balancer() const { return who_.pick("203.0.113.80", "2001:db8:80::80"); }
  /// A cluster IP outside of it.
  [[nodiscard]] Address strange() const { return who_.pick("203.0.113.9", "2001:db8:80::9"); }

  test::Node& node_;
  test::Actors who_;
  uint64_t seed_;
  std::mt19937_64 random_;
  Model model_;
  std::vector<Address> pod_addresses_;
  std::deque<std::string> history_;
  uint32_t source_sets_ = 0;
};

}  // namespace bpfnet::model_node
