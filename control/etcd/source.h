#pragma once

#include <memory>

#include "base/result.h"
#include "control/etcd/config.h"
#include "control/sources/source.h"

namespace bpfnet::etcd {

/// Network state from the objects below a prefix of etcd (docs/etcd.md): `<prefix>KIND/NAMESPACE/NAME`, one
/// JSON object each. While etcd cannot be reached, what was read last goes on to count.
///
/// A thread of its own talks to etcd and decodes; process() takes up what it has made.
class EtcdSource : public sources::Source {
 public:
  /// Begins to read. Whether etcd is there shows later. In the caller's network namespace.
  static Result<std::unique_ptr<EtcdSource>> open(const Config& config);
  EtcdSource(EtcdSource&&) = delete;
  ~EtcdSource() override;

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] int fd() const override;
  bool process() override;
  [[nodiscard]] bool synced() const override;
  [[nodiscard]] const model::ClusterState& state() const override;
  [[nodiscard]] uint64_t generation() const override;
  [[nodiscard]] sources::Changes take_changes() override;
  [[nodiscard]] std::vector<sources::Problem> problems() const override;
  [[nodiscard]] std::vector<sources::KindStatus> kinds() const override;
  [[nodiscard]] int64_t revision() const override;

 private:
  class Impl;
  explicit EtcdSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bpfnet::etcd
