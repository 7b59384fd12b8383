#pragma once

#include <string>

#include "control/http/backoff.h"
#include "control/http/client.h"
#include "control/sources/document.h"

namespace bpfnet::kubernetes {

/// Sets the condition NetworkUnavailable of our own Node to False, where a cloud has set it True and waits
/// for whoever makes the network. On the client's thread.
class NodeCondition {
 public:
  NodeCondition(http::Client& client, std::string server, std::string node_name, uint64_t seed);
  /// A Node was read, ours or another.
  void saw(const sources::Value& node);
  /// The datapath of this node stands.
  void network_ready();

 private:
  void clear();
  void failed(const Result<http::Reply>& reply);

  http::Client& client_;
  std::string server_;
  std::string node_name_;
  bool unavailable_ = false;
  bool ready_ = false;
  bool asking_ = false;
  http::Client::Id timer_ = 0;  ///< until it is tried again; nothing but this tries it before
  http::Backoff backoff_;
  std::string complaint_;  ///< said last
};

}  // namespace bpfnet::kubernetes
