#include "control/kubernetes/node_condition.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

namespace bpfnet::kubernetes {
namespace {

using sources::Value;

constexpr size_t kLongestNode = size_t{8} << 20;

std::string text_at(const Value* map, std::string_view key) {
  const Value* value = map ? map->find(key) : nullptr;
  return value ? value->text : std::string();
}

}  // namespace

NodeCondition::NodeCondition(http::Client& client, std::string server, std::string node_name, uint64_t seed)
    : client_(client), server_(std::move(server)), node_name_(std::move(node_name)), backoff_(seed) {}

void NodeCondition::saw(const Value& node) {
  const Value* metadata = node.find("metadata");
  if (text_at(metadata, "name") != node_name_) return;
  const Value* status = node.find("status");
  const Value* conditions = status ? status->find("conditions") : nullptr;
  unavailable_ = conditions && std::ranges::any_of(conditions->items, [](const Value* each) {
                   return text_at(each, "type") == "NetworkUnavailable" && text_at(each, "status") == "True";
                 });
  clear();
}

void NodeCondition::network_ready() {
  ready_ = true;
  clear();
}

void NodeCondition::clear() {
  if (!ready_ || !unavailable_ || asking_ || timer_ != 0) return;
  asking_ = true;
  unavailable_ = false;  // what is seen from now on may be another one than this clears
  const std::string now = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  const nlohmann::json condition = {
      {"type", "NetworkUnavailable"}, {"status", "False"},
      {"reason", "BpfnetIsReady"},    {"message", "bpfnet carries the traffic of this node"},
      {"lastTransitionTime", now},    {"lastHeartbeatTime", now}};
  client_.ask({.method = "PATCH",
               .url = fmt::format("{}/api/v1/nodes/{}/status", server_, http::encode(node_name_)),
               .headers = {{"Content-Type", "application/strategic-merge-patch+json"}},
               .body = nlohmann::json{{"status", {{"conditions", {condition}}}}}.dump(),
               .deadline = std::chrono::seconds(15)},
              kLongestNode, [this](const Result<http::Reply>& reply) {
                asking_ = false;
                if (!reply || reply->head.status / 100 != 2) return failed(reply);
                complaint_.clear();
                spdlog::info("node {}: condition NetworkUnavailable is False now", node_name_);
                clear();
              });
}

void NodeCondition::failed(const Result<http::Reply>& reply) {
  unavailable_ = true;
  const std::string why = reply ? fmt::format("HTTP status {}", reply->head.status) : reply.error().message;
  if (std::exchange(complaint_, why) != why)
    spdlog::warn("node {}: condition NetworkUnavailable cannot be cleared: {}", node_name_, why);
  const auto asked = reply ? reply->head.retry_after : std::nullopt;
  timer_ = client_.after(backoff_.next(http::Backoff::Clock::now(), asked), [this] {
    timer_ = 0;
    clear();
  });
}

}  // namespace bpfnet::kubernetes
