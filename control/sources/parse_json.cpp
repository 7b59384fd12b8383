#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "control/sources/tree_builder.h"

namespace bpfnet::sources {
namespace {

/// How far the parser has read; nlohmann tells no positions to its events.
struct Progress {
  size_t consumed = 0;
  int line = 1;
  char last = 0;
};

class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, Progress* progress) : at_(at), progress_(progress) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    progress_->last = *at_;
    progress_->line += *at_ == '\n' ? 1 : 0;
    ++progress_->consumed;
    ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  Progress* progress_;
};

class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonEvents(Document& document, const Progress& progress) : builder_(document), progress_(progress) {}

  bool null() override { return builder_.null(progress_.line), true; }
  bool boolean(bool value) override { return plain(value ? "true" : "false", progress_.line); }
  bool number_integer(int64_t value) override { return plain(std::to_string(value), number_line()); }
  bool number_unsigned(uint64_t value) override { return plain(std::to_string(value), number_line()); }
  bool number_float(double /*value*/, const std::string& text) override { return plain(text, number_line()); }
  bool string(std::string& value) override {
    return builder_.scalar(Value::Kind::kString, std::move(value), progress_.line), true;
  }
  bool binary(nlohmann::json::binary_t& /*value*/) override { return false; }
  bool key(std::string& value) override { return string(value); }
  bool start_object(size_t /*size*/) override {
    return builder_.start(Value::Kind::kMap, progress_.line), true;
  }
  bool end_object() override { return builder_.end(), true; }
  bool start_array(size_t /*size*/) override {
    return builder_.start(Value::Kind::kList, progress_.line), true;
  }
  bool end_array() override { return builder_.end(), true; }
  bool parse_error(size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::json::exception& error) override {
    std::string_view text = error.what();
    if (const size_t column = text.find("column "); column != std::string_view::npos) {
      if (const size_t colon = text.find(": ", column); colon != std::string_view::npos) {
        text.remove_prefix(colon + 2);
      }
    }
    throw SyntaxError{progress_.line, std::string(text)};
  }

 private:
  bool plain(std::string text, int line) {
    return builder_.scalar(Value::Kind::kPlain, std::move(text), line), true;
  }
  // A number ends by the character after it, which may have been the line's end.
  [[nodiscard]] int number_line() const { return progress_.line - (progress_.last == '\n' ? 1 : 0); }

  TreeBuilder builder_;
  const Progress& progress_;
};

}  // namespace

ParsedText parse_json(std::string_view text) {
  ParsedText result;
  Progress progress;
  constexpr std::string_view kSpace = " \t\r\n";
  try {
    while (true) {
      while (progress.consumed < text.size() &&
             kSpace.find(text[progress.consumed]) != std::string_view::npos) {
        progress.line += text[progress.consumed++] == '\n' ? 1 : 0;
      }
      if (progress.consumed == text.size()) break;
      Document document;
      JsonEvents events(document, progress);
      const CountingIterator begin(text.data() + progress.consumed, &progress);
      const CountingIterator end(text.data() + text.size(), &progress);
      nlohmann::json::sax_parse(begin, end, &events, nlohmann::json::input_format_t::json, false);
      if (document.root != nullptr) result.documents.push_back(std::move(document));
    }
  } catch (const SyntaxError& error) {
    result.error = error;
  } catch (const std::exception& error) {
    result.error = SyntaxError{progress.line, error.what()};
  }
  return result;
}

}  // namespace bpfnet::sources
