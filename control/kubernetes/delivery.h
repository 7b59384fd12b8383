#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/wake_fd.h"
#include "control/sources/decode.h"
#include "control/sources/source.h"

namespace bpfnet::kubernetes {

/// One thing that the thread of the API client tells the loop.
struct Delivery {
  enum class What : uint8_t {
    kObject,   ///< this is its newest version
    kGone,     ///< there is no such object any more
    kSynced,   ///< all of the kind that there was has been told
    kVersion,  ///< nothing but the version moved on
  };
  What what = What::kObject;
  sources::Kind kind = sources::Kind::kNamespace;
  model::ObjectName name;
  sources::DecodedText decoded;
  std::string version;  ///< of the kind, with this; empty: not known yet (in the middle of a list)
};

/// From the thread of the API client to the loop. Bounded: whoever puts waits while the loop is behind.
class DeliveryQueue {
 public:
  static constexpr size_t kLongest = 4096;

  static Result<std::unique_ptr<DeliveryQueue>> make();

  // On the client's thread.
  void put(Delivery delivery);
  void set_status(sources::Kind kind, const sources::KindStatus& status);

  // On the loop's thread.
  /// Readable while there is something to take.
  [[nodiscard]] int fd() const { return wake_.get(); }
  /// At most `limit` in their order.
  std::deque<Delivery> take(size_t limit);
  [[nodiscard]] std::map<sources::Kind, sources::KindStatus> statuses() const;
  /// From now on nobody waits, and nothing is kept.
  void close();

 private:
  DeliveryQueue() = default;

  WakeFd wake_;
  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::deque<Delivery> waiting_;
  std::map<sources::Kind, sources::KindStatus> statuses_;
  bool closed_ = false;
};

}  // namespace bpfnet::kubernetes
