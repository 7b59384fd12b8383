#include "control/kubernetes/json_cutter.h"

namespace bpfnet::kubernetes {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

Status not_json(char c) {
  return fail("the server sends no JSON: byte {:#04x} where an object begins", static_cast<unsigned char>(c));
}

Status too_large() {
  return fail("an object is larger than {} MiB", kLargestObject >> 20);
}

}  // namespace

Status FrameCutter::feed(std::string_view bytes, const std::function<bool(std::string_view)>& frame) {
  size_t begin = 0;  // of the event within `bytes`, if it began here
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (scanner_.depth() == 0 && pending_.empty() && i == begin) {
      if (is_space(c)) {
        begin = i + 1;
        continue;
      }
      if (c != '{') return not_json(c);
    }
    if (scanner_.step(c) > 0 || scanner_.in_string()) continue;
    const std::string_view here = bytes.substr(begin, i + 1 - begin);
    begin = i + 1;
    bool more = true;
    if (pending_.empty()) {
      more = frame(here);
    } else {
      pending_.append(here);
      const std::string whole = std::move(pending_);
      pending_.clear();
      more = frame(whole);
    }
    if (!more) return ok();
  }
  pending_.append(bytes.substr(begin));
  if (pending_.size() > kLargestObject) return too_large();
  return ok();
}

std::string_view member(std::string_view object, std::string_view key) {
  JsonScanner scanner;
  std::string_view name;  // the last string at depth 1
  size_t string = 0;
  size_t value = 0;  // 0: not found yet
  for (size_t i = 0; i < object.size(); ++i) {
    const bool was_string = scanner.in_string();
    const int before = scanner.depth();
    scanner.step(object[i]);
    if (before != 1) continue;
    if (value != 0) {
      if (was_string || (object[i] != ',' && object[i] != '}')) continue;
      size_t end = i;
      while (value < end && is_space(object[value])) ++value;
      while (value < end && is_space(object[end - 1])) --end;
      return object.substr(value, end - value);
    }
    if (!was_string && scanner.in_string()) {
      string = i + 1;
    } else if (was_string && !scanner.in_string()) {
      name = object.substr(string, i - string);
    } else if (!was_string && object[i] == ':' && name == key) {
      value = i + 1;
    }
  }
  return {};
}

Status ListCutter::feed(std::string_view bytes, const std::function<bool(std::string_view)>& item) {
  for (const char c : bytes) {
    if (scanner_.depth() == 0 && !is_space(c) && (complete_ || c != '{')) return not_json(c);
    const bool was_string = scanner_.in_string();
    const int before = scanner_.depth();
    const int depth = scanner_.step(c);
    if (in_items_) {
      if (before == 2 && depth == 1) {  // the list of items ends
        in_items_ = false;
        rest_.push_back(c);
      } else if (depth > 2 || before > 2) {
        item_.push_back(c);
        if (item_.size() > kLargestObject) return too_large();
        if (before == 3 && depth == 2 && !scanner_.in_string()) {
          const bool more = item(item_);
          item_.clear();
          if (!more) return ok();
        }
      }
      continue;
    }
    rest_.push_back(c);
    if (rest_.size() > kLargestObject) return too_large();
    if (before == 1) {
      if (!was_string && scanner_.in_string()) {
        key_.clear();
        in_key_ = true;
      } else if (in_key_ && scanner_.in_string()) {
        key_.push_back(c);
      } else if (was_string && !scanner_.in_string()) {
        in_key_ = false;
      } else if (c == '[' && key_ == "items") {
        in_items_ = true;
      }
    }
    if (before == 1 && depth == 0) complete_ = true;
  }
  return ok();
}

}  // namespace bpfnet::kubernetes
