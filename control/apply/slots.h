#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace bpfnet::apply {

/// Hands out runs of neighbouring slots in the one slot array, lowest first, so that the array stays
/// compact and a lookup's cache lines few.
class SlotAllocator {
 public:
  explicit SlotAllocator(uint32_t capacity);

  /// A run of `count` slots (at least 1); nullopt when no gap is wide enough.
  std::optional<uint32_t> take(uint32_t count);
  /// Marks a run found in the kernel as taken. False when part of it is taken already or outside.
  bool reserve(uint32_t first, uint32_t count);
  void release(uint32_t first, uint32_t count);

  [[nodiscard]] uint32_t used() const { return capacity_ - free_slots_; }
  [[nodiscard]] uint32_t capacity() const { return capacity_; }

 private:
  uint32_t capacity_;
  uint32_t free_slots_;
  std::map<uint32_t, uint32_t> free_;  ///< first -> count, neighbours merged
};

}  // namespace bpfnet::apply
