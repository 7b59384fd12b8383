#include "control/api/unix_client.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/fd.h"

namespace bpfnet::api {
namespace {

using Clock = std::chrono::steady_clock;

// The agent's answers are views of its maps: large, but not endless.
constexpr size_t kMaxResponse = 256UL << 20;

Status wait_for(int fd, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return fail_errno(ETIMEDOUT, "wait");
    pollfd poll_fd{fd, events, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(left));
    if (ready > 0) return ok();
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll");
  }
}

Result<Fd> connect_to(const std::string& path, Clock::time_point deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail_errno(ENAMETOOLONG, "connect");
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "socket");
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    // EAGAIN: the backlog is full. A unix socket gives no event for room in it, so the retry is by time.
    if (errno != EAGAIN) return fail_errno(errno, "connect");
    if (Clock::now() >= deadline) return fail_errno(ETIMEDOUT, "connect");
    ::poll(nullptr, 0, 2);
  }
  return fd;
}

Status send_all(int fd, std::string_view data, Clock::time_point deadline) {
  while (!data.empty()) {
    const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      data.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      BPFNET_TRY(wait_for(fd, POLLOUT, deadline));
    } else if (errno != EINTR) {
      return fail_errno(errno, "send");
    }
  }
  return ok();
}

Result<std::string> receive_all(int fd, Clock::time_point deadline) {
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got == 0) return text;
    if (got > 0) {
      text.append(buffer, static_cast<size_t>(got));
      if (text.size() > kMaxResponse) return fail_errno(EMSGSIZE, "receive");
    } else if (errno == EAGAIN) {
      BPFNET_TRY(wait_for(fd, POLLIN, deadline));
    } else if (errno != EINTR) {
      return fail_errno(errno, "receive");
    }
  }
}

template <typename T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

Result<std::string> join_chunks(std::string_view rest) {
  std::string body;
  for (;;) {
    const size_t end = rest.find("\r\n");
    if (end == std::string_view::npos) return fail_errno(EPROTO, "chunk without size");
    const auto size = number<size_t>(trim(rest.substr(0, std::min(end, rest.find(';')))), 16);
    rest.remove_prefix(end + 2);
    if (!size) return fail_errno(EPROTO, "chunk without size");
    if (*size == 0) return body;
    if (rest.size() < 2 || *size > rest.size() - 2) return fail_errno(EPROTO, "chunk cut short");
    body.append(rest.substr(0, *size));
    rest.remove_prefix(*size + 2);
  }
}

}  // namespace

Result<UnixResponse> parse_response(std::string_view text) {
  const size_t head_end = text.find("\r\n\r\n");
  if (head_end == std::string_view::npos) return fail_errno(EPROTO, "answer without end of headers");
  std::string_view head = text.substr(0, head_end);
  std::string_view rest = text.substr(head_end + 4);

  const size_t line_end = std::min(head.find("\r\n"), head.size());
  const std::string_view status_line = head.substr(0, line_end);
  const auto status = status_line.size() >= 12 ? number<int>(status_line.substr(9, 3)) : std::nullopt;
  if (!status_line.starts_with("HTTP/1.") || !status) return fail_errno(EPROTO, "answer is not HTTP");

  std::optional<size_t> length;
  bool chunked = false;
  for (head.remove_prefix(line_end); head.starts_with("\r\n");) {
    head.remove_prefix(2);
    const std::string_view line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(line.size());
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    if (same_word(name, "content-length")) length = number<size_t>(value);
    if (same_word(name, "transfer-encoding")) chunked = same_word(value, "chunked");
  }

  UnixResponse response{*status, {}};
  if (chunked) {
    auto body = join_chunks(rest);
    if (!body) return pass(body);
    response.body = std::move(*body);
    return response;
  }
  if (length && rest.size() < *length) return fail_errno(EPROTO, "answer cut short");
  response.body = rest.substr(0, length.value_or(rest.size()));
  return response;
}

Result<UnixResponse> UnixClient::request(std::string_view method, std::string_view target,
                                         std::string_view body) const {
  const std::string context = fmt::format("agent at {}: {} {}", options_.socket, method, target);
  const auto deadline = Clock::now() + options_.timeout;
  auto fd = connect_to(options_.socket, deadline);
  if (!fd) return pass(fd, context);
  const std::string message = fmt::format(
      "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      method, target, body.size(), body);
  if (auto sent = send_all(fd->get(), message, deadline); !sent) return pass(sent, context);
  auto text = receive_all(fd->get(), deadline);
  if (!text) return pass(text, context);
  auto response = parse_response(*text);
  if (!response) return pass(response, context);
  return response;
}

bool agent_is_down(const Error& error) {
  return error.code == ENOENT || error.code == ECONNREFUSED || error.code == ENOTDIR;
}

}  // namespace bpfnet::api
