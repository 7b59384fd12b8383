#include "control/objects/place.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "control/api/unix_client.h"
#include "control/objects/etcd_store.h"
#include "control/objects/file_store.h"

namespace bpfnet::objects {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// Others wait there already, and the agent tells nobody when they are done.
constexpr milliseconds kBusyPause{100};
/// An agent that starts with a large state answers when it has it.
constexpr milliseconds kAnswerTimeout{60'000};

Result<api::UnixResponse> checked(Result<api::UnixResponse> answer, const std::string& socket) {
  if (!answer || answer->status == 200 || answer->status == 503) return answer;
  const auto body = nlohmann::json::parse(answer->body, nullptr, false);
  const std::string message =
      body.is_object() && body.contains("error") ? body["error"].value("message", "") : "";
  return fail("agent at {}: {} {}", socket, answer->status, message);
}

Result<nlohmann::json> parsed(const Result<api::UnixResponse>& answer, const std::string& socket) {
  if (!answer) return pass(answer);
  auto body = nlohmann::json::parse(answer->body, nullptr, false);
  if (answer->status != 200 || !body.is_object())
    return fail("agent at {}: is not able to answer now", socket);
  return body;
}

std::string string_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

Result<std::vector<std::string>> problems_of(const api::UnixClient& client, const std::string& socket,
                                             const std::vector<Key>& keys) {
  const auto answer = parsed(checked(client.get("/v1/problems"), socket), socket);
  if (!answer) return pass(answer);
  std::vector<std::string> texts;
  for (const nlohmann::json& problem : answer->value("problems", nlohmann::json::array())) {
    const std::string object = string_of(problem, "object");
    const bool ours = std::ranges::any_of(keys, [&](const Key& key) { return object == key.to_string(); });
    if (ours) texts.push_back(string_of(problem, "text"));
  }
  return texts;
}

/// What the agent says, where the command line says nothing.
etcd::Config with_agents(etcd::Config config, const nlohmann::json& agents) {
  for (const nlohmann::json& endpoint : agents.value("endpoints", nlohmann::json::array()))
    if (endpoint.is_string()) config.endpoints.push_back(endpoint.get<std::string>());
  config.prefix = string_of(agents, "prefix");
  const auto fill = [&](std::string& field, const char* key) {
    if (field.empty()) field = string_of(agents, key);
  };
  fill(config.ca, "ca");
  // What goes together comes from one of the two.
  if (config.certificate.empty() && config.key.empty()) {
    fill(config.certificate, "certificate");
    fill(config.key, "key");
  }
  if (config.user.empty() && config.password_file.empty()) {
    fill(config.user, "user");
    fill(config.password_file, "passwordFile");
  }
  return config;
}

Result<std::unique_ptr<ObjectStore>> open_etcd(const etcd::Config& config) {
  auto store = EtcdStore::open(config);
  if (!store) return pass(store);
  return std::unique_ptr<ObjectStore>(std::move(*store));
}

}  // namespace

Result<std::unique_ptr<ObjectStore>> open_store(const Place& place) {
  if (!place.manifests.empty() && !place.etcd.endpoints.empty())
    return fail("--manifests and --etcd: objects are in one of the two");
  if (!place.manifests.empty()) return std::make_unique<FileStore>(place.manifests);
  if (!place.etcd.endpoints.empty()) return open_etcd(place.etcd);
  const api::UnixClient client({.socket = place.socket, .timeout = kAnswerTimeout});
  const auto answer = client.get("/v1/source");
  if (!answer && api::agent_is_down(answer.error()))
    return fail(
        "no agent answers at {} to tell where objects are kept; start it, or say --manifests DIR or --etcd "
        "URL",
        place.socket);
  const auto source = parsed(checked(answer, place.socket), place.socket);
  if (!source) return pass(source);
  const std::string kind = string_of(*source, "source");
  if (kind == "files") return std::make_unique<FileStore>(string_of(*source, "manifests"));
  if (kind == "etcd")
    return open_etcd(with_agents(place.etcd, source->value("etcd", nlohmann::json::object())));
  if (kind == "kubernetes")
    return fail("the agent at {} has its objects from the API server: use kubectl", place.socket);
  return fail("the agent at {} has its objects from `{}`, which this bpfnetctl does not know", place.socket,
              kind);
}

Result<std::vector<std::string>> await_agent(const std::string& socket, int64_t revision,
                                             const std::vector<Key>& keys, std::chrono::seconds timeout) {
  const api::UnixClient client({.socket = socket, .timeout = kAnswerTimeout});
  const auto deadline = Clock::now() + timeout;
  const std::string target = fmt::format("/v1/source/wait?revision={}", revision);
  while (true) {
    auto answer = checked(client.post(target, ""), socket);
    if (!answer) return pass(answer);
    if (answer->status == 503) {
      std::this_thread::sleep_for(kBusyPause);
    } else {
      const auto arrival = parsed(answer, socket);
      if (!arrival) return pass(arrival);
      if (arrival->value("arrived", false)) return problems_of(client, socket, keys);
    }
    if (Clock::now() >= deadline)
      return fail(
          "what was written is not in the maps after {} s; `bpfnetctl status` tells what the agent waits for",
          timeout.count());
  }
}

}  // namespace bpfnet::objects
