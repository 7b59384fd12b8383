#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace bpfnet::model {

/// Every namespace has its name by this label (P9).
inline constexpr auto kNamespaceNameLabel = "kubernetes.io/metadata.name";

/// The labels of an object. Copies share them until one is changed: the pods of a deployment have the same.
class Labels {
 public:
  using Map = std::map<std::string, std::string>;
  using value_type = Map::value_type;
  using const_iterator = Map::const_iterator;
  using iterator = const_iterator;

  Labels() = default;
  Labels(Map labels) {
    if (!labels.empty()) labels_ = std::make_shared<Map>(std::move(labels));
  }
  Labels(std::initializer_list<value_type> labels) : Labels(Map(labels)) {}

  [[nodiscard]] const Map& get() const {
    static const Map kNone;
    return labels_ ? *labels_ : kNone;
  }
  [[nodiscard]] const_iterator begin() const { return get().begin(); }
  [[nodiscard]] const_iterator end() const { return get().end(); }
  [[nodiscard]] const_iterator find(const std::string& key) const { return get().find(key); }
  [[nodiscard]] bool contains(const std::string& key) const { return get().contains(key); }
  [[nodiscard]] const std::string& at(const std::string& key) const { return get().at(key); }
  [[nodiscard]] size_t size() const { return get().size(); }
  [[nodiscard]] bool empty() const { return get().empty(); }

  /// Nobody else has these.
  [[nodiscard]] bool unshared() const { return labels_.use_count() <= 1; }

  /// For changes: from here on it has its own.
  std::string& operator[](const std::string& key) {
    if (!labels_ || labels_.use_count() > 1) labels_ = std::make_shared<Map>(get());
    return (*labels_)[key];
  }

  friend bool operator==(const Labels& a, const Labels& b) {
    return a.labels_ == b.labels_ || a.get() == b.get();
  }
  friend auto operator<=>(const Labels& a, const Labels& b) { return a.get() <=> b.get(); }

 private:
  std::shared_ptr<Map> labels_;  ///< null: none
};

}  // namespace bpfnet::model
