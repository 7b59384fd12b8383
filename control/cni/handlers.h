#pragma once

#include <string>
#include <string_view>

#include "control/cni/endpoint_manager.h"

namespace bpfnet::cni {

struct ApiReply {
  int http_status = 200;
  std::string body;  ///< JSON
};

/// Serves one request of the local API under /v1/cni/: `call` is the rest of the path (`add`, `del`,
/// `check`, `gc`, `status`), `body` its JSON, `query_ipam` the query parameter `ipam` of status (empty, or
/// `delegated`). Runs in the API's thread and takes as long as the work does.
ApiReply serve(EndpointManager& manager, std::string_view call, std::string_view body,
               std::string_view query_ipam = {});

}  // namespace bpfnet::cni
