#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/result.h"
#include "control/http/server_access.h"

namespace bpfnet::kubernetes {

/// Where the API server is, and as whom it is asked.
struct ClusterAccess {
  std::string server;  ///< `https://host:port`, without a slash at the end
  http::ServerAccess access;
  std::string origin;  ///< what said so: `kubeconfig /etc/bpfnet/kubeconfig`, `service account`
};

struct AccessOptions {
  std::string kubeconfig;  ///< file; empty: the service account of the Pod that we run in
  std::string api_server;  ///< URL that counts instead of what the former say (K10); empty: theirs
  std::string service_account = "/var/run/secrets/kubernetes.io/serviceaccount";
  /// KUBERNETES_SERVICE_HOST and _PORT.
  std::function<const char*(const char*)> environment;
};

/// Errors name the file, the field and the way out.
Result<ClusterAccess> open_access(const AccessOptions& options);

/// K13, K14. `path` is shown in errors and is what relative paths are relative to.
Result<ClusterAccess> read_kubeconfig(const std::string& path);

/// A bearer token that is read from its file for every request, so that a new one counts at once (K11).
std::function<Result<http::Authorization>()> token_from(const std::string& file);

/// `base64` as kubeconfigs have it. Errors: it is none.
Result<std::string> decode_base64(std::string_view text);

}  // namespace bpfnet::kubernetes
