#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace bpfnet::test {

struct HttpRequest {
  std::string method;
  std::string path;                            ///< decoded, without the query
  std::map<std::string, std::string> query;    ///< decoded
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;
  std::string client;  ///< the name in the client's certificate; empty: it showed none

  [[nodiscard]] std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
  [[nodiscard]] std::string parameter(const std::string& name) const {
    const auto found = query.find(name);
    return found == query.end() ? "" : found->second;
  }
};

/// The request line and headers of `text`, up to and without the empty line; nullopt: it is none.
std::optional<HttpRequest> parse_request(std::string_view text);
std::string decode_percent(std::string_view text);

}  // namespace bpfnet::test
