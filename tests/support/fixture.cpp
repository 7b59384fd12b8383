#include "tests/support/fixture.h"

#include <fmt/format.h>
#include <linux/pkt_cls.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <ostream>

#include "maps/decode.h"
#include "maps/labels.h"

namespace bpfnet::test {

Node& pooled_node(int number, const datapath_config& config) {
  static std::map<std::string, std::unique_ptr<Node>> pool;
  const std::string id =
      std::to_string(number) + std::string(reinterpret_cast<const char*>(&config), sizeof(config));
  auto& node = pool[id];
  if (node) {
    node->reset();
  } else {
    auto created = Node::create(number, config);
    if (!created) throw std::runtime_error(created.error().message);
    node = std::move(*created);
  }
  return *node;
}

void DatapathFixture::SetUp() {
  static const std::string reason = why_no_bpf();
  if (!reason.empty()) {
    const char* required = std::getenv("BPFNET_REQUIRE_BPF");
    if (required && std::string_view(required) == "1") FAIL() << "BPF is required here: " << reason;
    GTEST_SKIP() << "needs root and BPF: " << reason;
  }
  node_ = &pooled_node(1);
}

Eth DatapathFixture::from_pod(uint32_t index) {
  return Eth{.dst = Mac{{0x02, 0xcc, 0, 0, 0, static_cast<uint8_t>(index)}}, .src = Node::pod_mac(index)};
}

Eth DatapathFixture::from_wire() {
  return Eth{.dst = Node::node_mac(1), .src = Node::gateway_mac()};
}

Eth DatapathFixture::from_stack() {
  const Mac host{{0x02, 0xdd, 0, 0, 0, 1}};
  return Eth{.dst = host, .src = host};
}

void PrintTo(const Outcome& run, std::ostream* out) {
  *out << "code " << run.code << fmt::format(" mark {:#x}", run.mark) << " flows " << run.flow_delta << "\n";
  if (run.event) {
    *out << "  event " << maps::to_text(maps::decode(*run.event)) << "\n";
  } else {
    *out << "  no event\n";
  }
  *out << Packet::parse(run.bytes).describe();
}

}  // namespace bpfnet::test
