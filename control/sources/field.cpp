#include "control/sources/field.h"

#include <algorithm>
#include <charconv>

#include "control/sources/timestamp.h"

namespace bpfnet::sources {
namespace {

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::optional<int64_t> to_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  // YAML 1.1 reads 010 as 8 and other readers as 10: neither is guessed.
  const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
  if (digits.size() > 1 && digits.front() == '0') return {};
  return value;
}

bool one_of_words(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, text) != words.end();
}

std::optional<bool> to_bool(std::string_view text) {
  if (one_of_words(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) return true;
  if (one_of_words(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) return false;
  return {};
}

bool looks_like_number(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with("0x") || text.starts_with("0o")) {
    return text.size() > 2 && std::ranges::all_of(text.substr(2), [](char c) {
             return std::string_view("0123456789abcdefABCDEF").find(c) != std::string_view::npos;
           });
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = error != std::errc::invalid_argument && end == text.data() + text.size();
  // from_chars also takes "inf" and "nan", which YAML writes with a leading dot.
  return number && (text.front() == '.' || (text.front() >= '0' && text.front() <= '9'));
}

// The words that YAML (1.1, as kubectl reads it) takes for something else than text.
bool is_plain_text(std::string_view text) {
  return !to_bool(text) && !looks_like_number(text) && !one_of_words(text, {".inf", ".Inf", ".nan", ".NaN"});
}

}  // namespace

Field Field::operator[](std::string_view key) const& {
  return {*this, key, -1, *this && value_->kind == Value::Kind::kMap ? value_->find(key) : nullptr};
}

Field Field::map(std::string_view key) const& {
  Field field = (*this)[key];
  field.expect(Value::Kind::kMap);
  return field;
}

int Field::line() const {
  for (const Field* field = this; field != nullptr; field = field->parent_) {
    // The parser places an empty value at whatever follows it.
    if (*field) return field->value_->line;
  }
  return 0;
}

std::string Field::path() const {
  if (parent_ == nullptr) return "";
  std::string path = parent_->path();
  if (index_ >= 0) return path + fmt::format("[{}]", index_);
  if (key_.find_first_of("./") != std::string_view::npos || !is_label_key(key_)) {
    return path + fmt::format("[{}]", in_quotes(key_));
  }
  if (!path.empty()) path += '.';
  return path.append(key_);
}

std::string Field::shown() const {
  if (!*this) return "nothing";
  switch (value_->kind) {
    case Value::Kind::kList:
      return "a list";
    case Value::Kind::kMap:
      return "a map";
    case Value::Kind::kString:
      return in_quotes(value_->text);
    default: {
      const std::string text = in_quotes(value_->text);
      return text.substr(1, text.size() - 2);
    }
  }
}

Field Field::lenient() const& {
  Field copy = *this;
  copy.lenient_ = true;
  return copy;
}

void Field::complain(std::string text, Effect effect) const {
  if (lenient_ && effect == Effect::kRefused) effect = Effect::kFieldSkipped;
  if (effect == Effect::kRefused) findings_->refused = true;
  findings_->problems.push_back({{"", line()}, "", path(), std::move(text), effect});
}

size_t Field::refusals() const {
  return static_cast<size_t>(std::ranges::count(findings_->problems, Effect::kRefused, &Problem::effect));
}

bool Field::expect(Value::Kind kind) const {
  if (!*this) return false;
  if (value_->kind == kind) return true;
  refuse(fmt::format("is {}, expected {}", shown(), kind == Value::Kind::kList ? "a list" : "a map"));
  return false;
}

bool Field::is_integer() const {
  return *this && value_->kind == Value::Kind::kPlain && to_integer(value_->text);
}

bool Field::has_items() const {
  return *this && !(value_->kind == Value::Kind::kList && value_->items.empty());
}

bool Field::is_map() const {
  return expect(Value::Kind::kMap);
}

std::optional<std::string> Field::string() const {
  if (!*this) return {};
  if (value_->kind == Value::Kind::kString) return value_->text;
  if (value_->kind == Value::Kind::kPlain && is_plain_text(value_->text)) return value_->text;
  const bool scalar = value_->kind == Value::Kind::kPlain;
  refuse(fmt::format("is {}, expected a string{}", shown(), scalar ? ": put it in quotes" : ""));
  return {};
}

std::optional<int64_t> Field::integer(int64_t low, int64_t high) const {
  if (!*this) return {};
  if (value_->kind == Value::Kind::kPlain) {
    if (const auto number = to_integer(value_->text); number && *number >= low && *number <= high)
      return number;
  }
  refuse(fmt::format("is {}, expected a number from {} to {}", shown(), low, high));
  return {};
}

std::optional<bool> Field::boolean() const {
  if (!*this) return {};
  if (value_->kind == Value::Kind::kPlain) {
    if (const auto value = to_bool(value_->text)) return value;
  }
  refuse(fmt::format("is {}, expected true or false", shown()));
  return {};
}

std::optional<size_t> Field::one_of(std::initializer_list<std::string_view> choices) const {
  if (!*this) return {};
  if (value_->kind == Value::Kind::kPlain || value_->kind == Value::Kind::kString) {
    const auto found = std::ranges::find(choices, value_->text);
    if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  }
  std::vector<std::string_view> named(choices);
  std::erase(named, "");  // accepted like a missing field, not advertised
  refuse(fmt::format("is {}, expected {}", shown(), fmt::join(named, ", ")));
  return {};
}

std::optional<Address> Field::address() const {
  const auto text = string();
  if (!text) return {};
  if (text->find('\0') == std::string::npos) {
    if (const auto address = Address::parse(trim(*text), true)) return *address;
  }
  refuse(fmt::format("is {}, expected an IP address", shown()));
  return {};
}

std::optional<std::chrono::system_clock::time_point> Field::time() const {
  const auto text = string();
  if (!text) return {};
  if (const auto time = parse_time(trim(*text))) return time;
  refuse(fmt::format("is {}, expected a time such as 2026-01-31T12:00:00Z", shown()));
  return {};
}

std::optional<Cidr> Field::cidr() const {
  const auto text = string();
  if (!text) return {};
  if (text->find('/') != std::string::npos && text->find('\0') == std::string::npos) {
    if (const auto cidr = Cidr::parse(trim(*text), true)) return *cidr;
  }
  refuse(fmt::format("is {}, expected a CIDR such as 10.0.0.0/8 or fd00::/8", shown()));
  return {};
}

}  // namespace bpfnet::sources
