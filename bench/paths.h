#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/support/node.h"

namespace bpfnet::bench {

/// One measured path: what makes the node ready, and the packet that is then sent over and over.
struct Path {
  std::string name;  ///< hook/path/family
  enum hook hook;
  std::string device;
  bool overlay = false;   ///< on a node that has one
  bool new_flow = false;  ///< every packet has a source port of its own
  std::function<test::Packet(test::Node&, const test::Actors&)> prepare;
  Family family;
};

/// Every path, both families.
std::vector<Path> all_paths();

}  // namespace bpfnet::bench
