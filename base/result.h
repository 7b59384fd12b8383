#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace bpfnet {

/// What went wrong, in the words a user sees: object, operation, cause, and where there is one the way out.
/// `code` is an errno value (positive) or 0 when no system call was involved.
struct Error {
  std::string message;
  int code = 0;

  /// Prefixes the message with what was being done: `context: message`.
  [[nodiscard]] Error wrap(std::string_view context) const {
    return Error{fmt::format("{}: {}", context, message), code};
  }
};

/// Result<T>: a value or an Error. tl::expected is not nodiscard, this is.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

/// Success or an Error, for operations that give no value: `return ok();`
using Status = Result<void>;

inline Status ok() {
  return Status{};
}

/// `return fail("endpoint {}: no such container", id);`
template <typename... Args>
tl::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{fmt::format(format, std::forward<Args>(args)...), 0});
}

/// As fail(), with the errno `code`, whose name ends the message: `map flows: update: E2BIG`.
template <typename... Args>
tl::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format, Args&&... args);

/// Passes an error on, naming what was being done: `if (!r) return pass(r, "load bpf");`
template <typename R>
tl::unexpected<Error> pass(const R& result, std::string_view context) {
  return tl::unexpected<Error>(result.error().wrap(context));
}
template <typename R>
tl::unexpected<Error> pass(const R& result) {
  return tl::unexpected<Error>(result.error());
}

/// `E2BIG`, `ENOENT`, ...: the symbolic name of an errno value (sign ignored).
std::string errno_name(int code);

template <typename... Args>
tl::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format, Args&&... args) {
  const int positive = code < 0 ? -code : code;
  return tl::unexpected<Error>(
      Error{fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...), errno_name(positive)),
            positive});
}

}  // namespace bpfnet

/// Returns the error of `expr` from the enclosing function; otherwise goes on.
#define BPFNET_TRY(expr)                                                             \
  do {                                                                               \
    auto&& bpfnet_try_ = (expr);                                                     \
    if (!bpfnet_try_) return ::tl::unexpected<::bpfnet::Error>(bpfnet_try_.error()); \
  } while (false)
