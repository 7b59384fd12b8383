#pragma once

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {

/// Makes the switch of a cluster lose packets in silence, links staying up, while this lives.
class LossySwitch {
 public:
  explicit LossySwitch(const ClusterOptions& options);
  ~LossySwitch();
  LossySwitch(const LossySwitch&) = delete;
  LossySwitch& operator=(const LossySwitch&) = delete;

  /// From now on every packet from one to the other is lost.
  void lose(const Address& from, const Address& to);

 private:
  Fd netns_;
};

}  // namespace bpfnet::e2e
