#include "tests/support/cluster/api_mirror.h"

#include <nlohmann/json.hpp>

namespace bpfnet::e2e {

ApiMirror::ApiMirror(const Netns& netns, const std::string& address)
    : netns_(netns), server_(netns.in([&] {
        return std::make_unique<test::ApiServer>(test::ApiServer::Options{.address = address, .tls = {}});
      })) {}

void ApiMirror::start() {
  netns_.in([this] {
    server_->http().restart();
    return true;
  });
}

void ApiMirror::put(const std::string& file, const std::string& yaml) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(texts_[file], yaml) == yaml) return;
  const auto objects = test::objects_of_manifest(yaml);
  std::set<Id> now;
  for (const nlohmann::json& object : objects) {
    const nlohmann::json& metadata = object.at("metadata");
    now.emplace(object.at("kind"), metadata.value("namespace", "default"), metadata.at("name"));
  }
  server_->put_all(objects);
  for (const auto& [kind, ns, name] : std::exchange(objects_[file], now))
    if (!now.contains({kind, ns, name})) server_->remove(kind, ns, name);
}

}  // namespace bpfnet::e2e
