#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "control/sources/tree_builder.h"

namespace bpfnet::sources {
namespace {

int line_of(const YAML::Mark& mark) {
  return mark.line + 1;
}

// Events instead of YAML::Node: a third of the time, and marks for every scalar.
class YamlEvents : public YAML::EventHandler {
 public:
  explicit YamlEvents(Document& document) : builder_(document) {}

  void OnDocumentStart(const YAML::Mark& mark) override { start_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    builder_.null(line_of(mark), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    builder_.alias(anchor, line_of(mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool text = tag == "!" || tag == "tag:yaml.org,2002:str";  // "!" is how quoting is told
    builder_.scalar(text ? Value::Kind::kString : Value::Kind::kPlain, value, line_of(mark), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    builder_.start(Value::Kind::kList, line_of(mark), anchor);
  }
  void OnSequenceEnd() override { builder_.end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    builder_.start(Value::Kind::kMap, line_of(mark), anchor);
  }
  void OnMapEnd() override { builder_.end(); }

  [[nodiscard]] const YAML::Mark& start() const { return start_; }

 private:
  YAML::Mark start_;
  TreeBuilder builder_;
};

bool is_marker(std::string_view line, std::string_view marker) {
  if (!line.starts_with(marker)) return false;
  return line.size() == marker.size() ||
         std::string_view(" \t\r\n").find(line[marker.size()]) != std::string_view::npos;
}

}  // namespace

ParsedText parse_yaml(std::string_view text) {
  ParsedText result;
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    int last_start = -1;
    while (parser) {
      Document document;
      YamlEvents events(document);
      if (!parser.HandleNextDocument(events)) break;
      // A stray `,` or `}` between documents is never consumed by yaml-cpp, which would go on for ever.
      if (events.start().pos == last_start) throw SyntaxError{line_of(events.start()), "unexpected text"};
      last_start = events.start().pos;
      if (document.root != nullptr && document.root->kind != Value::Kind::kNull) {
        result.documents.push_back(std::move(document));
      }
    }
  } catch (const SyntaxError& error) {
    result.error = error;
  } catch (const YAML::Exception& error) {
    result.error = SyntaxError{error.mark.is_null() ? 1 : line_of(error.mark), error.msg};
  } catch (const std::exception& error) {
    result.error = SyntaxError{1, error.what()};
  }
  return result;
}

// By the YAML specification a `---` at the start of a line is a document marker wherever it stands, even in a
// block or quoted scalar.
std::vector<Chunk> split_documents(std::string_view text) {
  std::vector<Chunk> chunks;
  size_t begin = 0;
  int begin_line = 1;
  int line = 1;
  for (size_t at = 0; at < text.size(); ++line) {
    const size_t newline = text.find('\n', at);
    const size_t next = newline == std::string_view::npos ? text.size() : newline + 1;
    if (at != begin && is_marker(text.substr(at, next - at), "---")) {
      chunks.push_back({text.substr(begin, at - begin), begin_line});
      begin = at;
      begin_line = line;
    }
    at = next;
  }
  if (begin < text.size()) chunks.push_back({text.substr(begin), begin_line});
  return chunks;
}

}  // namespace bpfnet::sources
