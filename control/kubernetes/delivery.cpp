#include "control/kubernetes/delivery.h"

#include <cerrno>

namespace bpfnet::kubernetes {

Result<std::unique_ptr<DeliveryQueue>> DeliveryQueue::make() {
  std::unique_ptr<DeliveryQueue> queue(new DeliveryQueue);
  if (!queue->wake_.valid()) return fail_errno(errno, "kubernetes: eventfd");
  return queue;
}

void DeliveryQueue::put(Delivery delivery) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] { return closed_ || waiting_.size() < kLongest; });
  if (closed_) return;
  waiting_.push_back(std::move(delivery));
  if (waiting_.size() == 1) wake_.signal();
}

void DeliveryQueue::set_status(sources::Kind kind, const sources::KindStatus& status) {
  const std::lock_guard lock(mutex_);
  statuses_[kind] = status;
  wake_.signal();
}

std::deque<Delivery> DeliveryQueue::take(size_t limit) {
  const std::lock_guard lock(mutex_);
  wake_.drain();
  std::deque<Delivery> taken;
  if (waiting_.size() <= limit) {
    taken.swap(waiting_);
  } else {
    for (size_t i = 0; i < limit; ++i) {
      taken.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    wake_.signal();  // there is more
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
