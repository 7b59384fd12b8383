#include "control/compile/numbers.h"

namespace bpfnet::compile {

std::map<std::string, uint16_t> number_nodes(std::map<std::string, uint32_t>& numbers, uint32_t& next,
                                             uint32_t end, const std::set<std::string>& names) {
  std::map<std::string, uint16_t> given;
  std::map<uint32_t, std::string> holders;  // of every index, present or not
  std::set<uint32_t> present;
  for (const auto& [name, index] : numbers) holders.emplace(index, name);
  for (const std::string& name : names) {
    const auto known = numbers.find(name);
    if (known == numbers.end()) continue;
    given[name] = static_cast<uint16_t>(known->second);
    present.insert(known->second);
  }
  for (const std::string& name : names) {
    if (given.contains(name) || present.size() + 1 >= end) continue;
    do {
      if (next == 0 || next >= end) next = 1;
      ++next;
    } while (present.contains(next - 1));
    const uint32_t index = next - 1;
    if (const auto former = holders.find(index); former != holders.end()) {
      numbers.erase(former->second);
      holders.erase(former);
    }
    numbers[name] = index;
    holders.emplace(index, name);
    present.insert(index);
    given[name] = static_cast<uint16_t>(index);
  }
  return given;
}

}  // namespace bpfnet::compile
