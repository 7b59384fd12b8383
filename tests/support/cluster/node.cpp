#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "control/api/unix_client.h"
#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

constexpr milliseconds kApplyDeadline{10000};

Address numbered(const std::string& format, size_t number) {
  return Address::parse(fmt::format(fmt::runtime(format), number)).value();
}

std::string tail(const std::string& text, size_t size = 4000) {
  return text.size() <= size ? text : "..." + text.substr(text.size() - size);
}

}  // namespace

Node::Node(const ClusterOptions& options, size_t index)
    : options_(options),
      name_(options.nodes.at(index)),
      index_(index),
      host_(options.prefix + name_,
            options.routed ? numbered("198.18.{}.2", kFirstSegment + index)
                           : numbered("192.0.2.{}", 11 + index),
            options.routed ? numbered("2001:db8:{}::2", kFirstSegment + index)
                           : numbered("2001:db8:1::{}", 11 + index)) {
  for (const char* name : {"manifests", "state", "bpf"}) std::filesystem::create_directories(dir(name));
}

Node::~Node() {
  if (keep_) {
    agent_.detach();
    return;
  }
  agent_.kill();
  ::umount2(bpffs().c_str(), MNT_DETACH);
  std::error_code none;
  std::filesystem::remove_all(dir(), none);
}

std::vector<std::string> Node::pod_cidrs() const {
  return {fmt::format("10.244.{}.0/24", index_ + 1), fmt::format("fd00:10:244:{}::/64", index_ + 1)};
}

std::string Node::dir(const std::string& name) const {
  return fmt::format("{}/{}{}{}", options_.run_root, name_, name.empty() ? "" : "/", name);
}

std::vector<std::string> Node::agent_argv(const std::vector<std::string>& more_args) const {
  std::vector<std::string> argv = {options_.binaries.bpfnetd,
                                   "--node-name",
                                   name_,
                                   "--manifests",
                                   dir("manifests"),
                                   "--state-dir",
                                   dir("state"),
                                   "--bpffs",
                                   bpffs(),
                                   "--socket",
                                   socket()};
  if (api_) argv.insert(argv.end(), {"--source", "kubernetes", "--api-server", api_->url()});
  if (!options_.sockets.empty()) argv.insert(argv.end(), {"--sockets", options_.sockets});
  if (options_.sockets == "on")
    argv.insert(argv.end(), {"--cgroup", cgroup2_mount() + "/" + cgroup_name(options_)});
  argv.insert(argv.end(), {"--routing", options_.routing});
  argv.insert(argv.end(), options_.agent_args.begin(), options_.agent_args.end());
  argv.insert(argv.end(), more_args.begin(), more_args.end());
  return argv;
}

void Node::launch(const std::vector<std::string>& more_args) {
  agent_ = Child({.argv = agent_argv(more_args), .netns = netns().fd()}, dir("bpfnetd.log"), options_.keep);
}

void Node::start(const std::vector<std::string>& more_args) {
  launch(more_args);
  await_ready();
}

void Node::await_ready() {
  const api::UnixClient client({.socket = socket(), .timeout = milliseconds(2000)});
  const bool ready = eventually(
      [&] {
        if (!agent_.running()) return true;
        const auto answer = client.get("/v1/status");
        if (!answer || answer->status != 200) return false;
        return json::parse(answer->body).value("ready", false);
      },
      options_.start_deadline);
  if (!ready || !agent_.running()) {
    throw std::runtime_error(fmt::format("{}: bpfnetd did not get ready:\n{}", name_, tail(log())));
  }
}

void Node::stop_agent() {
  agent_.signal(SIGTERM);
  const auto status = agent_.wait(milliseconds(10000));
  if (status != 0) {
    throw std::runtime_error(fmt::format("{}: bpfnetd after SIGTERM: {}:\n{}", name_,
                                         status ? fmt::format("exit {}", *status) : "still running",
                                         tail(log())));
  }
}

int Node::cleanup(const std::vector<std::string>& more_args) {
  std::vector<std::string> argv = agent_argv({"--cleanup"});
  argv.insert(argv.end(), more_args.begin(), more_args.end());
  const Output output = run({.argv = argv, .netns = netns().fd()});
  if (output.status != 0) write_atomically(dir("cleanup.log"), output.out + output.err);
  return output.status;
}

json Node::api(const std::string& path) const {
  const api::UnixClient client({.socket = socket(), .timeout = milliseconds(10000)});
  const auto answer = client.get(path);
  if (!answer) throw std::runtime_error(fmt::format("{}: GET {}: {}", name_, path, answer.error().message));
  if (answer->status != 200) {
    throw std::runtime_error(fmt::format("{}: GET {}: {} {}", name_, path, answer->status, answer->body));
  }
  return json::parse(answer->body);
}

std::vector<std::string> Node::ctl_argv(const std::vector<std::string>& args) const {
  std::vector<std::string> argv = {options_.binaries.bpfnetctl, "--socket", socket(), "--bpffs", bpffs()};
  argv.insert(argv.end(), args.begin(), args.end());
  return argv;
}

Output Node::ctl_text(const std::vector<std::string>& args) const {
  return run({.argv = ctl_argv(args), .netns = netns().fd()});
}

json Node::ctl(const std::vector<std::string>& args) const {
  std::vector<std::string> argv = ctl_argv(args);
  argv.insert(argv.end(), {"--output", "json"});
  return json::parse(check_run({.argv = argv, .netns = netns().fd()}));
}

std::string Node::cni_config(const std::string& version, const std::string& extra) const {
  json config = {{"cniVersion", version},
                 {"name", "pods"},
                 {"type", "bpfnet-cni"},
                 {"socket", socket()},
                 {"stateDir", dir("state")}};
  config.merge_patch(json::parse(extra));
  return config.dump();
}

Command Node::cni_command(const CniCall& call) const {
  return {.argv = {options_.binaries.bpfnet_cni},
          .input = call.config.empty() ? cni_config() : call.config,
          .env = {{"CNI_COMMAND", call.command},
                  {"CNI_CONTAINERID", call.container_id},
                  {"CNI_NETNS", call.netns},
                  {"CNI_IFNAME", call.ifname},
                  {"CNI_ARGS", call.args},
                  {"CNI_PATH", "/usr/lib/cni"}},
          .netns = netns().fd()};
}

CniAnswer Node::cni(const CniCall& call) const {
  Output output = run(cni_command(call));
  CniAnswer answer{.status = output.status,
                   .json = std::make_unique<json>(json::parse(output.out, nullptr, false)),
                   .text = output.out + output.err};
  if (answer.json->is_discarded()) *answer.json = nullptr;
  return answer;
}

uint64_t Node::generation() const {
  return api("/v1/status").value("generation", uint64_t{0});
}

void Node::await_applied(const std::function<void()>& change) {
  if (api_) {
    change();
    if (eventually([&] { return api_applied(); }, kApplyDeadline)) return;
    throw std::runtime_error(fmt::format("{}: change not applied:\n{}", name_, tail(log())));
  }
  const uint64_t before = generation();
  change();
  if (!eventually([&] { return generation() > before; }, kApplyDeadline)) {
    throw std::runtime_error(
        fmt::format("{}: change not applied, generation still {}:\n{}", name_, before, tail(log())));
  }
}

// What a watch's selectors leave out makes no event: bookmarks tell how far it has come.
bool Node::api_applied() const {
  const uint64_t version = api_->server().version();
  api_->server().send_bookmarks();
  const json kinds = api("/v1/status").at("source_kinds");
  return std::ranges::all_of(kinds, [&](const json& kind) {
    const std::string seen = kind.at("version");
    return !seen.empty() && std::stoull(seen) >= version;
  });
}

void Node::write_manifest(const std::string& file, const std::string& yaml) const {
  if (api_) api_->put(file, yaml);
  write_atomically(dir("manifests/" + file + ".yaml"), yaml);
}

void Node::apply(const std::string& file, const std::string& yaml) {
  if (read_text(dir("manifests/" + file + ".yaml")) == yaml) return;
  if (!agent_.running()) return write_manifest(file, yaml);
  await_applied([&] { write_manifest(file, yaml); });
}

void Node::remove_manifest(const std::string& file) {
  const std::string path = dir("manifests/" + file + ".yaml");
  if (!std::filesystem::exists(path)) return;
  const auto remove = [&] {
    if (api_) api_->remove(file);
    std::filesystem::remove(path);
  };
  if (!agent_.running()) return remove();
  await_applied(remove);
}

void Node::keep() {
  keep_ = true;
  host_.netns().keep();
}

}  // namespace bpfnet::e2e
