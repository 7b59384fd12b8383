#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/http/server_access.h"

namespace bpfnet::etcd {

/// Where the objects of a cluster are in etcd, and who we are there.
struct Config {
  std::vector<std::string> endpoints;  ///< `https://192.0.2.1:2379`; one cluster, tried in turn
  std::string prefix = "/bpfnet/";
  // Files; read anew for each connection. Empty: none.
  std::string ca;
  std::string certificate;
  std::string key;
  std::string user;  ///< empty: etcd's auth is not on
  std::string password_file;

  /// A member that does not answer a look, every so often, within the deadline is left: 35 s.
  std::chrono::milliseconds look_interval{20'000};
  std::chrono::milliseconds deadline{15'000};  ///< of each request

  /// Fills in what may be left out (the last slash of the prefix, the port). Errors say which flag is wrong.
  static Result<Config> checked(Config config);
  [[nodiscard]] http::ServerAccess access() const;
  /// `etcd https://192.0.2.1:2379 and 2 more, prefix /bpfnet/`
  [[nodiscard]] std::string describe() const;
};

/// The end of the range of all keys that begin with `prefix`.
std::string range_end(std::string_view prefix);

}  // namespace bpfnet::etcd
