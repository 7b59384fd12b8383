#include "tests/support/http/http_message.h"

#include <charconv>

namespace bpfnet::test {
namespace {

std::string_view take_until(std::string_view& text, std::string_view end) {
  const size_t at = text.find(end);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + end.size());
  return part;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

}  // namespace

std::string decode_percent(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, code, 16).ec == std::errc{}) {
      result += static_cast<char>(code);
      i += 2;
    } else {
      result += text[i] == '+' ? ' ' : text[i];
    }
  }
  return result;
}

std::optional<HttpRequest> parse_request(std::string_view text) {
  HttpRequest request;
  std::string_view line = take_until(text, "\r\n");
  request.method = take_until(line, " ");
  std::string_view target = take_until(line, " ");
  if (!line.starts_with("HTTP/1.") || target.empty()) return {};
  request.path = decode_percent(take_until(target, "?"));
  while (!target.empty()) {
    std::string_view pair = take_until(target, "&");
    const std::string name = decode_percent(take_until(pair, "="));
    request.query[name] = decode_percent(pair);
  }
  while (!text.empty()) {
    std::string_view header = take_until(text, "\r\n");
    const std::string name = lower(take_until(header, ":"));
    while (header.starts_with(' ')) header.remove_prefix(1);
    request.headers[name] = header;
  }
  return request;
}

}  // namespace bpfnet::test
