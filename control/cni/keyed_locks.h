#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace bpfnet::cni {

/// A mutex for every key in use: holders of different keys do not meet. Keys nobody holds take no memory.
class KeyedLocks {
 public:
  /// Holds the key's mutex to the end of the scope.
  class Guard {
   public:
    Guard(KeyedLocks& locks, std::string key) : locks_(locks), key_(std::move(key)), mutex_(locks.of(key_)) {
      mutex_->lock();
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      mutex_->unlock();
      mutex_.reset();
      locks_.forget_unused(key_);
    }

   private:
    KeyedLocks& locks_;
    std::string key_;
    std::shared_ptr<std::mutex> mutex_;
  };

 private:
  std::shared_ptr<std::mutex> of(const std::string& key) {
    const std::scoped_lock guard(mutex_);
    auto& slot = in_use_[key];
    auto found = slot.lock();
    if (!found) slot = found = std::make_shared<std::mutex>();
    return found;
  }
  void forget_unused(const std::string& key) {
    const std::scoped_lock guard(mutex_);
    const auto slot = in_use_.find(key);
    if (slot != in_use_.end() && slot->second.expired()) in_use_.erase(slot);
  }

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<std::mutex>> in_use_;
};

}  // namespace bpfnet::cni
