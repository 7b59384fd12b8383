#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace bpfnet::cni {

/// The error codes of the CNI specification (C7) and our own.
enum class ErrorCode : int {
  kIncompatibleVersion = 1,
  kUnsupportedField = 2,
  kUnknownContainer = 3,
  kBadEnvironment = 4,
  kIo = 5,
  kDecode = 6,
  kInvalidConfig = 7,
  kOwnNetns = 8,
  kTryAgain = 11,
  kUnavailable = 50,
  kLimited = 51,  ///< unavailable, and existing containers may be cut off too
  kInterfaceExists = 100,
  kHostPortTaken = 101,
  kCheckFailed = 102,
  kIpamPlugin = 103,  ///< the delegated IPAM plugin could not be run or gave nonsense
  kOther = 999,
};

struct CniError {
  int code = static_cast<int>(ErrorCode::kOther);  ///< an ErrorCode, or the code of a delegated plugin
  std::string message;
  std::string details;
};

/// A value or a CniError.
template <typename T>
class [[nodiscard]] CniResult : public tl::expected<T, CniError> {
 public:
  using tl::expected<T, CniError>::expected;
};

/// `return refuse(ErrorCode::kBadEnvironment, "CNI_IFNAME {} is too long", name);`
template <typename... Args>
tl::unexpected<CniError> refuse(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<CniError>(
      CniError{static_cast<int>(code), fmt::format(format, std::forward<Args>(args)...), {}});
}

/// Passes on the error of another CniResult.
template <typename R>
tl::unexpected<CniError> forward_error(const R& result) {
  return tl::unexpected<CniError>(result.error());
}

}  // namespace bpfnet::cni
