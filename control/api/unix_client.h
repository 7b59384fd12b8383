#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bpfnet::api {

struct UnixResponse {
  int status = 0;  ///< HTTP status code
  std::string body;
};

/// A client of the agent's local API: HTTP/1.1 over a unix stream socket, one connection a request.
/// Written out by hand because cpp-httplib's library brings OpenSSL, which triples the start of a process
/// that a runtime runs for every container (3.2 ms against 1.1 ms, measured).
///
/// Errors carry an errno: ENOENT or ECONNREFUSED mean that no agent is there and nothing was sent;
/// ETIMEDOUT and the rest mean that the agent may or may not have acted.
class UnixClient {
 public:
  struct Options {
    std::string socket = "/run/bpfnet/bpfnet.sock";
    std::chrono::milliseconds timeout{60'000};  ///< for the whole request
  };

  explicit UnixClient(Options options) : options_(std::move(options)) {}

  /// `target` is path and query.
  Result<UnixResponse> get(std::string_view target) const { return request("GET", target, {}); }
  /// Posts `body` as application/json.
  Result<UnixResponse> post(std::string_view target, std::string_view body) const {
    return request("POST", target, body);
  }

 private:
  Result<UnixResponse> request(std::string_view method, std::string_view target, std::string_view body) const;

  Options options_;
};

/// Whether `error` says that no agent listens: the request was never delivered.
[[nodiscard]] bool agent_is_down(const Error& error);

/// Takes an HTTP/1.1 response apart: status line, headers, body (Content-Length, chunked, or to the end).
/// For responses read to the end of the connection.
Result<UnixResponse> parse_response(std::string_view text);

}  // namespace bpfnet::api
