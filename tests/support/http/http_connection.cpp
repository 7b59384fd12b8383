#include <fmt/format.h>

#include "tests/support/http/http_server.h"

namespace bpfnet::test {
namespace {

std::string head(int status, const std::string& headers) {
  return fmt::format("HTTP/1.1 {} Status\r\n{}", status, headers);
}

}  // namespace

void HttpConnection::answer(int status, std::string_view body, const std::string& headers) {
  raw(fmt::format("{}Content-Length: {}\r\n\r\n{}", head(status, headers), body.size(), body));
}

bool HttpConnection::start_chunked(int status, const std::string& headers) {
  return raw(head(status, headers) + "Transfer-Encoding: chunked\r\n\r\n");
}

bool HttpConnection::chunk(std::string_view data) {
  return data.empty() || raw(fmt::format("{:x}\r\n{}\r\n", data.size(), data));
}

bool HttpConnection::end_chunked() {
  return raw("0\r\n\r\n");
}

}  // namespace bpfnet::test
