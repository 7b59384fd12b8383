#include "control/cni/handlers.h"

#include "control/cni/wire.h"

namespace bpfnet::cni {
namespace {

ApiReply reply(const CniError& error) {
  // The codes a runtime may retry are the server's trouble, all others the caller's.
  const bool ours = error.code == static_cast<int>(ErrorCode::kTryAgain) || error.code >= 50;
  return {ours ? 503 : 400, encode(error)};
}

template <typename Request, typename Work>
ApiReply with(const CniResult<Request>& request, Work&& work) {
  if (!request) return reply(request.error());
  const CniResult<void> done = work(*request);
  if (!done) return reply(done.error());
  return {200, "{}"};
}

}  // namespace

ApiReply serve(EndpointManager& manager, std::string_view call, std::string_view body,
               std::string_view query_ipam) {
  if (call == "add") {
    const auto request = decode_add(body);
    if (!request) return reply(request.error());
    const auto added = manager.add(*request);
    if (!added) return reply(added.error());
    return {200, encode(*added)};
  }
  if (call == "del")
    return with(decode_delete(body), [&](const auto& request) { return manager.del(request); });
  if (call == "check")
    return with(decode_check(body), [&](const auto& request) { return manager.check(request); });
  if (call == "gc") return with(decode_gc(body), [&](const auto& request) { return manager.gc(request); });
  if (call == "status") {
    const auto status = manager.status(query_ipam != "delegated");
    if (!status) return reply(status.error());
    return {200, "{}"};
  }
  return {404,
          encode(CniError{static_cast<int>(ErrorCode::kOther), fmt::format("no such call: {}", call), {}})};
}

}  // namespace bpfnet::cni
