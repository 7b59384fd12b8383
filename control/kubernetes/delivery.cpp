#include "control/kubernetes/delivery.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace bpfnet::kubernetes {

Result<std::unique_ptr<DeliveryQueue>> DeliveryQueue::make() {
  Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno(errno, "kubernetes: eventfd");
  return std::unique_ptr<DeliveryQueue>(new DeliveryQueue(std::move(wake)));
}

void DeliveryQueue::signal() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void DeliveryQueue::put(Delivery delivery) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] { return closed_ || waiting_.size() < kLongest; });
  if (closed_) return;
  waiting_.push_back(std::move(delivery));
  if (waiting_.size() == 1) signal();
}

void DeliveryQueue::set_status(sources::Kind kind, const sources::KindStatus& status) {
  const std::lock_guard lock(mutex_);
  statuses_[kind] = status;
  signal();
}

std::deque<Delivery> DeliveryQueue::take(size_t limit) {
  const std::lock_guard lock(mutex_);
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake_.get(), &count, sizeof(count));
  std::deque<Delivery> taken;
  if (waiting_.size() <= limit) {
    taken.swap(waiting_);
  } else {
    for (size_t i = 0; i < limit; ++i) {
      taken.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    signal();  // there is more
  }
  room_.notify_all();
  return taken;
}

std::map<sources::Kind, sources::KindStatus> DeliveryQueue::statuses() const {
  const std::lock_guard lock(mutex_);
  return statuses_;
}

void DeliveryQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  waiting_.clear();
  room_.notify_all();
}

}  // namespace bpfnet::kubernetes
