#pragma once

#include <fmt/format.h>

#include <atomic>
#include <compare>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace bpfnet {

/// A text that is never changed once it is made, and is shared by its copies. A cluster's names stand in a
/// dozen tables: each copy costs eight bytes, and comparing a copy costs nothing. Copies may live on several
/// threads. The empty text costs no memory.
class SharedText {
 public:
  SharedText() = default;
  SharedText(std::string_view text) : block_(make(text)) {}
  SharedText(const std::string& text) : SharedText(std::string_view(text)) {}
  SharedText(const char* text) : SharedText(std::string_view(text)) {}
  SharedText(const SharedText& other) : block_(other.block_) {
    if (block_) block_->users.fetch_add(1, std::memory_order_relaxed);
  }
  SharedText(SharedText&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  SharedText& operator=(SharedText other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~SharedText() {
    if (block_ && block_->users.fetch_sub(1, std::memory_order_acq_rel) == 1) ::operator delete(block_);
  }

  [[nodiscard]] std::string_view view() const {
    return block_ ? std::string_view(reinterpret_cast<const char*>(block_ + 1), block_->size)
                  : std::string_view();
  }
  operator std::string_view() const { return view(); }
  operator std::string() const { return str(); }
  [[nodiscard]] std::string str() const { return std::string(view()); }
  [[nodiscard]] bool empty() const { return block_ == nullptr; }
  /// No copy of it is left.
  [[nodiscard]] bool unshared() const {
    return !block_ || block_->users.load(std::memory_order_acquire) == 1;
  }
  [[nodiscard]] size_t size() const { return view().size(); }

  friend bool operator==(const SharedText& a, const SharedText& b) {
    return a.block_ == b.block_ || a.view() == b.view();
  }
  template <typename Text>
  requires(!std::same_as<Text, SharedText> && std::convertible_to<const Text&, std::string_view>) friend bool
  operator==(const SharedText& a, const Text& b) {
    return a.view() == std::string_view(b);
  }
  friend std::strong_ordering operator<=>(const SharedText& a, const SharedText& b) {
    if (a.block_ == b.block_) return std::strong_ordering::equal;
    return a.view() <=> b.view();
  }

 private:
  /// The text follows it.
  struct Block {
    std::atomic<uint32_t> users;
    uint32_t size;
  };

  static Block* make(std::string_view text) {
    if (text.empty()) return nullptr;
    void* memory = ::operator new(sizeof(Block) + text.size());
    std::memcpy(static_cast<char*>(memory) + sizeof(Block), text.data(), text.size());
    return new (memory) Block{1, static_cast<uint32_t>(text.size())};
  }

  Block* block_ = nullptr;  ///< null: empty
};

}  // namespace bpfnet

template <>
struct fmt::formatter<bpfnet::SharedText> : fmt::formatter<std::string_view> {
  auto format(const bpfnet::SharedText& text, fmt::format_context& context) const {
    return fmt::formatter<std::string_view>::format(text.view(), context);
  }
};

template <>
struct std::hash<bpfnet::SharedText> {
  size_t operator()(const bpfnet::SharedText& text) const noexcept {
    return std::hash<std::string_view>{}(text.view());
  }
};
