#include "tests/support/cluster/lossy_switch.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace bpfnet::e2e {

LossySwitch::LossySwitch(const ClusterOptions& options)
    : netns_(::open(fmt::format("/run/netns/{}lan", options.prefix).c_str(), O_RDONLY | O_CLOEXEC)) {
  check_run({.argv = {"nft", "-f", "-"},
             .input = "add table bridge lost\n"
                      "add chain bridge lost forward { type filter hook forward priority 0; }\n",
             .netns = netns_.get()});
}

LossySwitch::~LossySwitch() {
  run({.argv = {"nft", "delete", "table", "bridge", "lost"}, .netns = netns_.get()});
}

void LossySwitch::lose(const Address& from, const Address& to) {
  const char* family = from.is_ipv4() ? "ip" : "ip6";
  check_run({.argv = {"nft", "-f", "-"},
             .input = fmt::format("add rule bridge lost forward {} saddr {} {} daddr {} drop\n", family,
                                  from.to_string(), family, to.to_string()),
             .netns = netns_.get()});
}

}  // namespace bpfnet::e2e
