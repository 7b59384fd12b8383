#include "control/sources/timestamp.h"

#include <charconv>
#include <cstdint>

namespace bpfnet::sources {
namespace {

/// Takes what it reads off the front of the text.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::optional<int> digits(size_t count, int low, int high) {
    int value = 0;
    if (rest_.size() < count) return {};
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + count, value);
    if (error != std::errc{} || end != rest_.data() + count || value < low || value > high) return {};
    rest_.remove_prefix(count);
    return value;
  }
  bool one_of(std::string_view characters) {
    if (rest_.empty() || characters.find(rest_.front()) == std::string_view::npos) return false;
    last_ = rest_.front();
    rest_.remove_prefix(1);
    return true;
  }
  /// Digits behind the point; what is finer than a nanosecond is dropped.
  std::optional<std::chrono::nanoseconds> fraction() {
    int64_t value = 0;
    int64_t unit = 1'000'000'000;
    size_t count = 0;
    for (; count < rest_.size() && rest_[count] >= '0' && rest_[count] <= '9'; ++count) {
      unit /= 10;
      value += (rest_[count] - '0') * unit;
    }
    if (count == 0) return {};
    rest_.remove_prefix(count);
    return std::chrono::nanoseconds(value);
  }
  [[nodiscard]] char last() const { return last_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
  char last_ = 0;
};

}  // namespace

std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text) {
  using namespace std::chrono;
  Reader in(text);
  const auto year_number = in.digits(4, 1970, 2200);
  if (!year_number || !in.one_of("-")) return {};
  const auto month_number = in.digits(2, 1, 12);
  if (!month_number || !in.one_of("-")) return {};
  const auto day_number = in.digits(2, 1, 31);
  if (!day_number || !in.one_of("Tt ")) return {};
  const auto hour = in.digits(2, 0, 23);
  if (!hour || !in.one_of(":")) return {};
  const auto minute = in.digits(2, 0, 59);
  if (!minute || !in.one_of(":")) return {};
  const auto second = in.digits(2, 0, 60);
  if (!second) return {};
  nanoseconds fraction{0};
  if (in.one_of(".")) {
    const auto read = in.fraction();
    if (!read) return {};
    fraction = *read;
  }
  minutes offset{0};
  if (!in.one_of("Zz+-")) return {};
  if (const char sign = in.last(); sign == '+' || sign == '-') {
    const auto hours_off = in.digits(2, 0, 23);
    if (!hours_off || !in.one_of(":")) return {};
    const auto minutes_off = in.digits(2, 0, 59);
    if (!minutes_off) return {};
    offset = minutes((*hours_off * 60 + *minutes_off) * (sign == '-' ? -1 : 1));
  }
  const year_month_day date{year(*year_number), month(static_cast<unsigned>(*month_number)),
                            day(static_cast<unsigned>(*day_number))};
  if (!in.at_end() || !date.ok()) return {};
  const auto instant =
      sys_days(date) + hours(*hour) + minutes(*minute) + seconds(*second) - offset + fraction;
  return time_point_cast<system_clock::duration>(instant);
}

}  // namespace bpfnet::sources
