#include "control/etcd/backoff.h"

#include <algorithm>

namespace bpfnet::etcd {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirst{800};
constexpr milliseconds kLongest{30'000};
constexpr std::chrono::minutes kHealthy{2};

}  // namespace

milliseconds Backoff::failed(Clock::time_point now) {
  if (now - last_ > kHealthy) next_ = kFirst;
  const milliseconds whole = next_;
  next_ = std::min(next_ * 2, kLongest);
  last_ = now + whole;
  std::uniform_int_distribution<int64_t> part(whole.count() / 2, whole.count());
  return milliseconds(part(random_));
}

}  // namespace bpfnet::etcd
