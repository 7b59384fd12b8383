#pragma once

#include <compare>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace bpfnet::model {

/// A list that is never changed once it is made, and is shared by its copies: one of a hundred thousand
/// endpoints costs its memory once, and comparing a copy costs nothing. Reads like a const vector.
template <typename T>
class SharedList {
 public:
  using value_type = T;
  using const_iterator = typename std::vector<T>::const_iterator;
  using iterator = const_iterator;

  SharedList() = default;
  SharedList(std::vector<T> items) {
    if (items.empty()) return;
    items.shrink_to_fit();
    items_ = std::make_shared<const std::vector<T>>(std::move(items));
  }
  SharedList(std::initializer_list<T> items) : SharedList(std::vector<T>(items)) {}

  [[nodiscard]] const std::vector<T>& get() const {
    static const std::vector<T> kNone;
    return items_ ? *items_ : kNone;
  }
  operator const std::vector<T>&() const { return get(); }
  [[nodiscard]] const_iterator begin() const { return get().begin(); }
  [[nodiscard]] const_iterator end() const { return get().end(); }
  [[nodiscard]] size_t size() const { return get().size(); }
  [[nodiscard]] bool empty() const { return items_ == nullptr; }
  const T& operator[](size_t index) const { return get()[index]; }
  /// No other list has these items.
  [[nodiscard]] bool unshared() const { return items_.use_count() <= 1; }
  friend bool operator==(const SharedList& a, const SharedList& b) {
    return a.items_ == b.items_ || a.get() == b.get();
  }
  friend auto operator<=>(const SharedList& a, const SharedList& b) requires std::three_way_comparable<T> {
    return a.get() <=> b.get();
  }

 private:
  std::shared_ptr<const std::vector<T>> items_;  ///< null: none
};

}  // namespace bpfnet::model
