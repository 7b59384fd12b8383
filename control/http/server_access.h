#pragma once

#include <functional>
#include <string>
#include <variant>

#include "base/result.h"

namespace bpfnet::http {

/// A certificate, a key: PEM text in memory, or a file that is read anew for each request, so that one who
/// replaces it (by rename) need not tell anybody.
struct Secret {
  std::string file;
  std::string text;  ///< counts where `file` is empty
  [[nodiscard]] bool given() const { return !file.empty() || !text.empty(); }
  /// The text without the space around it. Errors: the file cannot be read, is empty or larger than 1 MiB.
  [[nodiscard]] Result<std::string> read() const;
};

struct BearerToken {
  std::string token;
};
struct BasicLogin {
  std::string user;
  std::string password;
};
/// What goes into the header Authorization; monostate: nothing.
using Authorization = std::variant<std::monostate, BearerToken, BasicLogin>;

/// How a server is reached and trusted, and who it is told that we are.
struct ServerAccess {
  Secret ca;           ///< authorities the server's certificate is checked by; not given: the system's
  Secret certificate;  ///< ours; goes with `key`
  Secret key;
  std::string server_name;  ///< that the certificate is for, if it is not the URL's host
  bool insecure = false;    ///< the server's certificate is not checked
  /// `http://host:port`, `https://`, `socks5://`; empty: what the environment says (HTTPS_PROXY, NO_PROXY).
  std::string proxy;
  /// Called on the client's thread when a request starts. Missing: no authorization.
  std::function<Result<Authorization>()> authorize;
};

/// All secrets of `access` in one string, to see whether any of them changed. Errors as Secret::read().
Result<std::string> read_secrets(const ServerAccess& access);

}  // namespace bpfnet::http
