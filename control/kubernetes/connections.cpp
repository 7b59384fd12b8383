#include "control/kubernetes/connections.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>

namespace bpfnet::kubernetes {
namespace {

uint64_t seed_of(const KubernetesSource::Options& options) {
  return options.seed != 0 ? options.seed : std::random_device{}();
}

}  // namespace

Connections::Connections(http::Client& client, DeliveryQueue& queue, const KubernetesSource::Options& options)
    : client_(client),
      options_(options),
      events_(client, options.cluster.server, options.node_name, options.events,
              [this](const sources::Notice& notice) { return uid_of(notice); }),
      condition_(client, options.cluster.server, options.node_name, seed_of(options)) {
  uint64_t seed = seed_of(options_);
  for (const Resource& resource : resources()) {
    std::function<void(const sources::Value&)> see;
    if (resource.kind == sources::Kind::kNode)
      see = [this](const sources::Value& node) { condition_.saw(node); };
    reflectors_.push_back(std::make_unique<Reflector>(client_, queue,
                                                      Reflector::Config{.resource = resource,
                                                                        .server = options_.cluster.server,
                                                                        .node_name = options_.node_name,
                                                                        .times = options_.times,
                                                                        .seed = seed += 2},
                                                      std::move(see)));
    reflectors_.back()->on_reached = [this] {
      for (const auto& each : reflectors_) each->server_is_back();
    };
  }
}

// Of Nodes kubelet gives the name; who describes one asks for both.
std::string Connections::uid_of(const sources::Notice& notice) const {
  if (notice.kind == sources::Kind::kNode) return notice.object.name;
  return reflectors_.at(static_cast<size_t>(notice.kind))->uid_of(notice.object);
}

void Connections::start() {
  for (const auto& reflector : reflectors_) reflector->start();
  if (const auto secrets = http::read_secrets(client_.access())) secrets_ = *secrets;
  client_.after(options_.secrets_every, [this] { look_at_secrets(); });
  client_.after(options_.silence, [this] { look_at_silence(); });
}

void Connections::reconnect(const std::string& why, const std::string& trouble) {
  spdlog::warn("API server {}: {}{}; watches are started again", options_.cluster.server, why, trouble);
  for (const auto& reflector : reflectors_) reflector->reconnect(trouble);
}

// New requests show new certificates by themselves; watches would go on under the old ones.
void Connections::look_at_secrets() {
  const auto secrets = http::read_secrets(client_.access());
  if (!secrets) {
    spdlog::warn("API server {}: {}", options_.cluster.server, secrets.error().message);
  } else if (std::exchange(secrets_, *secrets) != *secrets) {
    reconnect("certificates were replaced");
  }
  client_.after(options_.secrets_every, [this] { look_at_secrets(); });
}

// TCP notices a peer that is gone. What it does not notice is found by asking: a server which is there and
// does nothing any more, and a network that still brings its packets and loses ours.
void Connections::look_at_silence() {
  auto heard = http::Client::Clock::time_point::min();
  for (const auto& reflector : reflectors_) heard = std::max(heard, reflector->heard());
  const auto silent = http::Client::Clock::now() - heard;
  // Those that wait will see for themselves.
  const bool asking = std::ranges::any_of(reflectors_, [](const auto& each) { return each->asking(); });
  if (silent < options_.silence || !asking) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(options_.silence - silent);
    client_.after(asking ? left : options_.silence, [this] { look_at_silence(); });
    return;
  }
  client_.send({.url = options_.cluster.server + "/version", .deadline = options_.patience},
               {.head = {}, .data = {}, .done = [this](const http::Outcome& outcome) {
                  // Any answer is a sign of life. What refuses connections is for the reflectors to see; and
                  // if we have no token to show, the server is not to blame.
                  if (outcome.failure != http::Failure::kNone && outcome.failure != http::Failure::kSecret)
                    reconnect("no sign of life: ", outcome.message);
                  client_.after(options_.silence, [this] { look_at_silence(); });
                }});
}

}  // namespace bpfnet::kubernetes
