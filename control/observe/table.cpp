#include "control/observe/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "maps/convert.h"

namespace bpfnet::observe {

std::string Table::text() const {
  std::vector<size_t> widths(heads_.size());
  const auto measure = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], cells[i].size());
  };
  measure(heads_);
  for (const auto& row : rows_) measure(row);

  std::string text;
  const auto append = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size() && i < widths.size(); ++i)
      line += fmt::format("{:<{}}  ", cells[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  append(heads_);
  for (const auto& row : rows_) append(row);
  return text;
}

std::string socket_text(const std::string& address, uint16_t port) {
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

std::string age_text(uint64_t seconds) {
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86400);
}

std::string address_text(const addr& address) {
  const Address value = maps::from_abi(address);
  return value.is_unspecified() ? "" : value.to_string();
}

}  // namespace bpfnet::observe
