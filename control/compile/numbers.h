#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace bpfnet::compile {

/// The number of `text`: the one it has, else a new one that nothing ever had.
inline uint32_t number_of(std::map<std::string, uint32_t>& numbers, uint32_t& next, uint32_t first,
                          const std::string& text) {
  if (const auto known = numbers.find(text); known != numbers.end()) return known->second;
  if (next < first) {
    next = first;
    for (const auto& [other, number] : numbers) next = std::max(next, number + 1);
  }
  return numbers.emplace(text, next++).first->second;
}

/// Forgets what is out of use once that is most of the table. Little is lost: a text that comes back later
/// gets another number.
template <typename InUse>
void forget_unused(std::map<std::string, uint32_t>& numbers, const InUse& in_use) {
  constexpr size_t kKept = 4096;
  if (numbers.size() <= 2 * in_use.size() + kKept) return;
  std::erase_if(numbers, [&](const auto& entry) { return !in_use.contains(entry.second); });
}

/// Gives each of `names` its index, 1 to `end` - 1: the one it had, else the next that none of them has. The
/// index of a name that is gone stays its own until all others have been given since: whatever still carries
/// it has long ended. A name for which there is none left is missing from the answer.
std::map<std::string, uint16_t> number_nodes(std::map<std::string, uint32_t>& numbers, uint32_t& next,
                                             uint32_t end, const std::set<std::string>& names);

}  // namespace bpfnet::compile
