#pragma once

#include <string>
#include <vector>

#include "maps/abi/base.h"

namespace bpfnet::observe {

/// Rows under heads, columns aligned by two blanks. An empty cell is shown as nothing.
class Table {
 public:
  explicit Table(std::vector<std::string> heads) : heads_(std::move(heads)) {}

  /// Cells that are missing at the end are empty.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// Lines without trailing blanks. No rows: the heads alone.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::string> heads_;
  std::vector<std::vector<std::string>> rows_;
};

/// `10.0.0.1:80`, `[fd00::1]:80`
std::string socket_text(const std::string& address, uint16_t port);
/// `10.0.0.1`; the unspecified address of records that have none is an empty cell.
std::string address_text(const addr& address);
/// `3 s`, `2 min`, `5 h`, `4 d`
std::string age_text(uint64_t seconds);

}  // namespace bpfnet::observe
