#include "control/apply/slots.h"

#include <algorithm>
#include <iterator>

namespace bpfnet::apply {

SlotAllocator::SlotAllocator(uint32_t capacity) : capacity_(capacity), free_slots_(capacity) {
  if (capacity > 0) free_[0] = capacity;
}

std::optional<uint32_t> SlotAllocator::take(uint32_t count) {
  auto gap = std::find_if(free_.begin(), free_.end(), [count](const auto& g) { return g.second >= count; });
  if (count == 0 || gap == free_.end()) return std::nullopt;
  const uint32_t first = gap->first;
  const uint32_t left = gap->second - count;
  free_.erase(gap);
  if (left > 0) free_[first + count] = left;
  free_slots_ -= count;
  return first;
}

bool SlotAllocator::reserve(uint32_t first, uint32_t count) {
  auto gap = free_.upper_bound(first);
  if (count == 0 || gap == free_.begin()) return false;
  --gap;
  const uint64_t gap_end = uint64_t{gap->first} + gap->second;
  const uint64_t end = uint64_t{first} + count;
  if (end > gap_end) return false;
  const uint32_t before = first - gap->first;
  if (before > 0) {
    gap->second = before;
  } else {
    free_.erase(gap);
  }
  if (gap_end > end) free_[static_cast<uint32_t>(end)] = static_cast<uint32_t>(gap_end - end);
  free_slots_ -= count;
  return true;
}

void SlotAllocator::release(uint32_t first, uint32_t count) {
  if (count == 0) return;
  free_slots_ += count;
  auto next = free_.lower_bound(first);
  if (next != free_.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second == first) {
      first = previous->first;
      count += previous->second;
      free_.erase(previous);
    }
  }
  if (next != free_.end() && first + count == next->first) {
    count += next->second;
    free_.erase(next);
  }
  free_[first] = count;
}

}  // namespace bpfnet::apply
