#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/kubernetes/node_condition.h"
#include "control/kubernetes/source.h"

namespace bpfnet::kubernetes {

/// The half of the source that lives on the client's thread: a reflector for each kind, what is written to
/// the server, and an eye on whether it still lives.
class Connections {
 public:
  Connections(http::Client& client, DeliveryQueue& queue, const KubernetesSource::Options& options);
  void start();
  EventWriter& events() { return events_; }
  NodeCondition& condition() { return condition_; }

 private:
  void look_at_secrets();
  void look_at_silence();
  /// `trouble`: what is wrong with the connections there are; empty: nothing.
  void reconnect(const std::string& why, const std::string& trouble = "");
  [[nodiscard]] std::string uid_of(const sources::Notice& notice) const;

  http::Client& client_;
  KubernetesSource::Options options_;
  std::vector<std::unique_ptr<Reflector>> reflectors_;
  EventWriter events_;
  NodeCondition condition_;
  std::string secrets_;
};

}  // namespace bpfnet::kubernetes
