#include "control/http/server_access.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"

namespace bpfnet::http {
namespace {

constexpr size_t kLargest = 1U << 20;

Result<std::string> read_file(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "{}", path);
  std::string text;
  std::array<char, 8192> buffer{};
  while (true) {
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "{}: read", path);
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
    if (text.size() > kLargest)
      return fail("{}: larger than 1 MiB, expected a certificate, key or token", path);
  }
}

std::string trimmed(const std::string& text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

Result<std::string> Secret::read() const {
  if (file.empty()) return trimmed(text);
  auto content = read_file(file);
  if (!content) return pass(content);
  std::string secret = trimmed(*content);
  if (secret.empty()) return fail("{}: is empty", file);
  return secret;
}

Result<std::string> read_secrets(const ServerAccess& access) {
  std::string all;
  for (const Secret* secret : {&access.ca, &access.certificate, &access.key}) {
    auto text = secret->read();
    if (!text) return pass(text);
    all.append(*text).push_back('\0');
  }
  return all;
}

}  // namespace bpfnet::http
