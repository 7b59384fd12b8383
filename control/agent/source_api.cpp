#include "control/agent/source_api.h"

#include <charconv>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <semaphore>

namespace bpfnet::agent {
namespace {

using nlohmann::ordered_json;
using std::chrono::milliseconds;

/// Waiting holds a thread of the server: not too long, and not too many of them, as the CNI plugin is served
/// by the same. Who wants to wait longer asks again.
constexpr milliseconds kLongestWait{5000};
constexpr std::ptrdiff_t kMostWaiting = 2;

/// Whoever asks works in another directory.
std::string absolute(const std::string& path) {
  std::error_code error;
  const auto whole = path.empty() ? std::filesystem::path() : std::filesystem::absolute(path, error);
  return error ? path : whole.string();
}

ordered_json describe(const Options& options) {
  ordered_json view = {{"source", options.source}};
  if (options.source == "files") view["manifests"] = absolute(options.manifests);
  if (options.source != "etcd") return view;
  const etcd::Config& etcd = options.etcd;
  view["etcd"] = {{"endpoints", etcd.endpoints},
                  {"prefix", etcd.prefix},
                  {"ca", absolute(etcd.ca)},
                  {"certificate", absolute(etcd.certificate)},
                  {"key", absolute(etcd.key)},
                  {"user", etcd.user},
                  {"passwordFile", absolute(etcd.password_file)}};
  return view;
}

api::Answer wait(Agent& agent, const api::Request& request) {
  const std::string text = request.parameter("revision");
  int64_t revision = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), revision);
  if (!text.empty() && (error != std::errc{} || end != text.data() + text.size()))
    return api::Answer::error(400, 400, "revision: expected a number");
  const auto arrival = agent.await_source(revision, kLongestWait);
  if (!arrival) return api::Answer::error(503, 503, "the agent is ending");
  return api::Answer::json(ordered_json{{"arrived", arrival->arrived},
                                        {"ready", arrival->ready},
                                        {"generation", arrival->generation},
                                        {"revision", arrival->revision}});
}

}  // namespace

void register_source_routes(api::Server& server, Agent& agent) {
  server.get("/v1/source",
             [&agent](const api::Request&) { return api::Answer::json(describe(agent.options())); });
  auto free = std::make_shared<std::counting_semaphore<kMostWaiting>>(kMostWaiting);
  server.post("/v1/source/wait", [&agent, free](const api::Request& request) {
    if (!free->try_acquire()) return api::Answer::error(503, 503, "others wait already: try again");
    const std::unique_ptr<void, std::function<void(void*)>> release(free.get(),
                                                                    [&](void*) { free->release(); });
    return wait(agent, request);
  });
}

}  // namespace bpfnet::agent
