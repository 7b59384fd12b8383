#include "control/kubernetes/access.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/base64.h"

namespace bpfnet::kubernetes {
namespace {

Result<std::string> checked_url(const std::string& url, std::string_view where) {
  if (!url.starts_with("https://") && !url.starts_with("http://"))
    return fail("{}: \"{}\" is no URL, expected https://HOST:PORT", where, url);
  std::string trimmed = url;
  while (trimmed.ends_with('/')) trimmed.pop_back();
  return trimmed;
}

std::string text_of(const char* value) {
  return value ? value : "";
}

/// K9. `with_server`: the address is known already.
Result<ClusterAccess> in_cluster(const AccessOptions& options, bool with_server) {
  ClusterAccess cluster;
  cluster.origin = "service account";
  const auto environment = [&](const char* name) {
    return options.environment ? text_of(options.environment(name)) : std::string();
  };
  const std::string host = environment("KUBERNETES_SERVICE_HOST");
  const std::string port = environment("KUBERNETES_SERVICE_PORT");
  if (!with_server && (host.empty() || port.empty()))
    return fail(
        "no API server is named: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set as they are "
        "in a Pod; "
        "give --kubeconfig or --api-server");
  const bool six = host.find(':') != std::string::npos;
  cluster.server = fmt::format("https://{}{}{}:{}", six ? "[" : "", host, six ? "]" : "", port);
  const std::string token = options.service_account + "/token";
  const std::string ca = options.service_account + "/ca.crt";
  // Outside of a Pod, with an address given, there is nobody that we are.
  if (!with_server || access(token.c_str(), F_OK) == 0) cluster.access.authorize = token_from(token);
  if (!with_server || access(ca.c_str(), F_OK) == 0) cluster.access.ca.file = ca;
  return cluster;
}

}  // namespace

std::function<Result<http::Authorization>()> token_from(const std::string& file) {
  return [secret = http::Secret{.file = file, .text = {}}]() -> Result<http::Authorization> {
    auto token = secret.read();
    if (!token) return pass(token, "token");
    return http::Authorization(http::BearerToken{std::move(*token)});
  };
}

Result<ClusterAccess> open_access(const AccessOptions& options) {
  std::string server;
  if (!options.api_server.empty()) {
    auto checked = checked_url(options.api_server, "--api-server");
    if (!checked) return pass(checked);
    server = std::move(*checked);
  }
  auto cluster =
      options.kubeconfig.empty() ? in_cluster(options, !server.empty()) : read_kubeconfig(options.kubeconfig);
  if (!cluster) return cluster;
  if (!server.empty()) {
    cluster->server = std::move(server);
  } else {
    auto checked = checked_url(cluster->server, cluster->origin);
    if (!checked) return pass(checked);
    cluster->server = std::move(*checked);
  }
  return cluster;
}

Result<std::string> decode_base64(std::string_view text) {
  std::string bare(text);
  std::erase_if(bare, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
  auto bytes = from_base64(bare);
  if (!bytes) return fail("is no base64");
  return std::move(*bytes);
}

}  // namespace bpfnet::kubernetes
