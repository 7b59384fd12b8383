#include "control/etcd/config.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::etcd {
namespace {

Result<std::string> checked_endpoint(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  const std::string original = url;
  std::string_view rest = url;
  for (const std::string_view scheme : {"http://", "https://"})
    if (rest.starts_with(scheme)) rest.remove_prefix(scheme.size());
  if (rest.size() == url.size() || rest.empty() || rest.find_first_of("/?#@ ") != std::string_view::npos)
    return fail("--etcd {}: is no endpoint, expected e.g. https://192.0.2.1:2379", original);
  // `[fd00::1]`, `host`: without a port it is the client port of etcd, not HTTP's.
  const size_t colon = rest.rfind(':');
  const bool has_port = colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos;
  return has_port ? url : url + ":2379";
}

}  // namespace

Result<Config> Config::checked(Config config) {
  if (config.endpoints.empty()) return fail("--etcd: is missing, expected e.g. https://192.0.2.1:2379");
  for (std::string& endpoint : config.endpoints) {
    auto url = checked_endpoint(endpoint);
    if (!url) return pass(url);
    endpoint = std::move(*url);
  }
  if (config.prefix.empty()) return fail("--etcd-prefix: is empty, expected e.g. /bpfnet/");
  if (!config.prefix.ends_with('/')) config.prefix += '/';
  if (config.certificate.empty() != config.key.empty())
    return fail("--etcd-cert and --etcd-key go together: one of them is missing");
  if (config.user.empty() != config.password_file.empty())
    return fail("--etcd-user and --etcd-password-file go together: one of them is missing");
  return config;
}

http::ServerAccess Config::access() const {
  http::ServerAccess access;
  access.ca.file = ca;
  access.certificate.file = certificate;
  access.key.file = key;
  return access;
}

std::string Config::describe() const {
  const std::string more = endpoints.size() > 1 ? fmt::format(" and {} more", endpoints.size() - 1) : "";
  return fmt::format("etcd {}{}, prefix {}", endpoints.empty() ? "" : endpoints.front(), more, prefix);
}

std::string range_end(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty()) {
    if (static_cast<unsigned char>(end.back()) != 0xff) {
      ++end.back();
      return end;
    }
    end.pop_back();
  }
  return std::string(1, '\0');  // every key from `prefix` on
}

}  // namespace bpfnet::etcd
