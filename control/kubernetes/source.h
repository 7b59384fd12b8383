#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "control/kubernetes/access.h"
#include "control/kubernetes/event_writer.h"
#include "control/kubernetes/reflector.h"
#include "control/sources/source.h"

namespace bpfnet::kubernetes {

/// Network state from a Kubernetes API server. Connections, parsing and decoding live on a thread of their
/// own; process() takes what is decoded, a bounded amount at a time. docs/kubernetes.md.
class KubernetesSource : public sources::Source {
 public:
  struct Options {
    ClusterAccess cluster;
    std::string node_name;
    Reflector::Times times;
    EventWriter::Limits events;
    std::chrono::milliseconds secrets_every{300'000};  ///< certificates are looked at (K12)
    std::chrono::milliseconds silence{25'000};         ///< until one that may not hear us is asked (K8)
    std::chrono::milliseconds patience{15'000};        ///< until one that does not answer counts as dead
    uint64_t seed = 0;                                 ///< of all jitter; 0: random
  };

  /// Starts to connect; whatever goes wrong with that is a problem, not an error.
  static Result<std::unique_ptr<KubernetesSource>> start(Options options);
  ~KubernetesSource() override;

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] int fd() const override;
  bool process() override;
  [[nodiscard]] bool synced() const override;
  [[nodiscard]] const model::ClusterState& state() const override;
  [[nodiscard]] uint64_t generation() const override;
  [[nodiscard]] sources::Changes take_changes() override;
  [[nodiscard]] std::vector<sources::Problem> problems() const override;
  [[nodiscard]] std::vector<sources::KindStatus> kinds() const override;
  void notify(const sources::Notice& notice) override;
  void network_ready() override;

 private:
  class Impl;
  explicit KubernetesSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bpfnet::kubernetes
