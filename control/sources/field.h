#pragma once

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "control/sources/document.h"
#include "control/sources/problem.h"

namespace bpfnet::sources {

/// What went wrong while one object was decoded.
struct Findings {
  std::vector<Problem> problems;  ///< lines within the document, object names empty: the caller fills them in
  bool refused = false;           ///< some problem costs the whole object
};

/// The field of an object that is being decoded: a value and the way to it. Missing and null fields are the
/// same. Readers return nullopt for a missing field and also, after a complaint, for one that cannot be
/// understood. A field refers to its parent, which must outlive it: hence no subscript on temporaries.
class Field {
 public:
  Field(const Value& root, Findings& findings) : value_(&root), findings_(&findings) {}

  [[nodiscard]] Field operator[](std::string_view key) const&;
  Field operator[](std::string_view key) const&& = delete;

  /// The same for a field which, if it is there, must be a map.
  [[nodiscard]] Field map(std::string_view key) const&;
  [[nodiscard]] Field map(std::string_view key) const&& = delete;

  /// Is there a value other than null?
  explicit operator bool() const { return value_ != nullptr && value_->kind != Value::Kind::kNull; }
  [[nodiscard]] int line() const;
  [[nodiscard]] std::string path() const;  ///< `spec.ports[0].port`
  /// How many complaints so far cost the object.
  [[nodiscard]] size_t refusals() const;

  /// Complains if the field has a value that is not a map.
  [[nodiscard]] bool is_map() const;
  [[nodiscard]] std::optional<std::string> string() const;
  [[nodiscard]] std::optional<int64_t> integer(int64_t low, int64_t high) const;
  [[nodiscard]] std::optional<bool> boolean() const;
  /// Is it written as a whole number, of any size?
  [[nodiscard]] bool is_integer() const;
  /// Is it anything but missing or an empty list?
  [[nodiscard]] bool has_items() const;
  [[nodiscard]] bool has_duplicate_keys() const { return *this && value_->has_duplicate_keys; }
  /// Index of the field's text in `choices`.
  [[nodiscard]] std::optional<size_t> one_of(std::initializer_list<std::string_view> choices) const;
  /// An address; leading zeros and space around it are forgiven (S11).
  [[nodiscard]] std::optional<Address> address() const;
  /// A prefix `address/length`, as sloppy.
  [[nodiscard]] std::optional<Cidr> cidr() const;
  /// A point in time as RFC 3339 writes it.
  [[nodiscard]] std::optional<std::chrono::system_clock::time_point> time() const;

  /// Calls `use(item)` for every item of a list; complains if it is something else.
  template <typename Use>
  void each(Use use) const {
    if (!expect(Value::Kind::kList)) return;
    for (size_t i = 0; i < value_->items.size(); ++i) {
      const Field item(*this, {}, static_cast<int>(i), value_->items[i]);
      item ? use(item) : item.refuse("is empty, expected a value");
    }
  }
  /// The same for lists of maps.
  template <typename Use>
  void each_map(Use use) const {
    each([&](const Field& item) {
      if (item.is_map()) use(item);
    });
  }
  /// Calls `use(key, field)` for every entry of a map; complains if it is something else.
  template <typename Use>
  void each_entry(Use use) const {
    if (!expect(Value::Kind::kMap)) return;
    for (const auto& [key, value] : value_->entries) use(key, Field(*this, key, -1, value));
  }

  /// The object cannot be used.
  void refuse(std::string text) const { complain(std::move(text), Effect::kRefused); }
  /// This field alone is left out, or (kNone) kept although it looks wrong.
  void warn(std::string text, Effect effect = Effect::kFieldSkipped) const {
    complain(std::move(text), effect);
  }
  /// The value as it is shown in complaints: shortened, unprintable bytes escaped.
  [[nodiscard]] std::string shown() const;
  /// For readers of optional parts: complaints of this field and those below it cost only the field.
  [[nodiscard]] Field lenient() const&;

 private:
  Field(const Field& parent, std::string_view key, int index, const Value* value)
      : value_(value),
        parent_(&parent),
        key_(key),
        index_(index),
        findings_(parent.findings_),
        lenient_(parent.lenient_) {}

  bool expect(Value::Kind kind) const;
  void complain(std::string text, Effect effect) const;

  const Value* value_ = nullptr;
  const Field* parent_ = nullptr;
  std::string_view key_;
  int index_ = -1;
  Findings* findings_ = nullptr;
  bool lenient_ = false;
};

/// `text` in quotes, shortened, unprintable bytes escaped.
std::string in_quotes(std::string_view text);

/// RFC 1123: lower-case letters, digits and `-`, at most 63 characters.
bool is_dns_label(std::string_view name);
/// RFC 1123 labels joined by dots, at most 253 characters.
bool is_dns_subdomain(std::string_view name);
/// `[prefix/]name` as in label keys.
bool is_label_key(std::string_view key);
/// At most 63 letters, digits, `-`, `_` and `.`; may be empty.
bool is_label_value(std::string_view value);

}  // namespace bpfnet::sources
