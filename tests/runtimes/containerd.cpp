#include "tests/runtimes/containerd.h"

#include <fmt/format.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>

#include "base/base64.h"
#include "tests/runtimes/runtimes.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

constexpr milliseconds kCallDeadline{70000};

/// CRI's JSON has bytes as base64.
std::string bytes_of(const json& answer, const char* key) {
  return from_base64(answer.value(key, "")).value();
}

}  // namespace

Containerd::Containerd(const Node& node, const std::string& plugins, const std::string& configurations)
    : node_(node), dir_(node.dir("containerd")) {
  std::filesystem::create_directories(dir_);
  write_config(plugins, configurations);
  process_ = Child({.argv = {"containerd", "--config", dir_ + "/config.toml"}, .netns = node.netns().fd()},
                   dir_ + "/log");
  const bool up = eventually(
      [&] {
        return !process_.running() || run({.argv = {"ctr", "--address", socket(), "version"}}).status == 0;
      },
      milliseconds(20000));
  if (!up || !process_.running())
    throw std::runtime_error("containerd did not start:\n" + read_text(dir_ + "/log"));
  import(image_file(dir_));
}

std::string Containerd::ctr(const std::vector<std::string>& args) const {
  std::vector<std::string> argv = {"ctr", "--address", socket(), "--namespace", "k8s.io"};
  argv.insert(argv.end(), args.begin(), args.end());
  return check_run({.argv = argv});
}

void Containerd::import(const std::string& archive, const std::string& name) const {
  const std::string said = ctr({"images", "import", archive});
  // `unpacking NAME (sha256:...)...done`
  const std::string imported = said.substr(said.find(' ') + 1, said.find(" (") - said.find(' ') - 1);
  if (!name.empty() && name != imported) ctr({"images", "tag", "--force", imported, name});
}

Containerd::~Containerd() {
  try {
    while (!sandboxes_.empty()) remove(sandboxes_.back());
  } catch (const std::exception& error) {
    fmt::print(stderr, "containerd of {}: {}\n", node_.name(), error.what());
  }
  process_.signal(SIGTERM);
  (void)process_.wait(milliseconds(10000));
}

// What this machine cannot do is switched off: AppArmor, lowering of oom_score_adj, systemd's cgroups.
void Containerd::write_config(const std::string& plugins, const std::string& configurations) const {
  write_atomically(dir_ + "/config.toml", fmt::format(R"(version = 2
root = "{0}/root"
state = "{0}/state"
oom_score = 0
[grpc]
  address = "{0}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{1}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{2}"
    conf_dir = "{3}"
)",
                                                      dir_, kImage, plugins, configurations));
}

json Containerd::call(const std::string& method, const json& request) const {
  const Output output =
      run({.argv = {BPFNET_RUNTIMES_DIR "/cri", socket(), method}, .input = request.dump()}, kCallDeadline);
  if (output.status != 0) throw std::runtime_error(output.err);
  return json::parse(output.out);
}

bool Containerd::network_ready() const {
  const json answer = call("Status", json::object());
  for (const json& condition : answer.at("status").at("conditions"))
    if (condition.at("type") == "NetworkReady") return condition.value("status", false);
  return false;
}

std::string Containerd::run_sandbox(const json& config) {
  sandboxes_.push_back(call("RunPodSandbox", {{"config", config}}).at("pod_sandbox_id"));
  return sandboxes_.back();
}

void Containerd::stop(const std::string& sandbox) {
  if (!stopped_.insert(sandbox).second) return;
  call("StopPodSandbox", {{"pod_sandbox_id", sandbox}});
}

void Containerd::remove(const std::string& sandbox) {
  std::erase(sandboxes_, sandbox);
  stop(sandbox);
  call("RemovePodSandbox", {{"pod_sandbox_id", sandbox}});
}

CriPod::CriPod(Containerd& runtime, const std::string& ns, const std::string& name, const json& more)
    : runtime_(runtime), name_(name) {
  json config = {{"metadata", {{"name", name}, {"uid", "uid-" + name}, {"namespace", ns}}},
                 {"hostname", name},
                 {"log_directory", "/tmp"},
                 {"linux", {{"cgroup_parent", "/bpfnet-test-runtimes"}}}};
  config.merge_patch(more);
  sandbox_ = runtime_.run_sandbox(config);
  const json network =
      runtime_.call("PodSandboxStatus", {{"pod_sandbox_id", sandbox_}}).at("status").at("network");
  ips_.push_back(Address::parse(network.at("ip").get<std::string>()).value());
  for (const json& ip : network.value("additional_ips", json::array()))
    ips_.push_back(Address::parse(ip.at("ip").get<std::string>()).value());
  container_ =
      runtime_
          .call("CreateContainer", {{"pod_sandbox_id", sandbox_},
                                    {"config",
                                     {{"metadata", {{"name", "web"}}},
                                      {"image", {{"image", kImage}}},
                                      {"command", {"httpd", "-f", "-p", std::to_string(kPort), "-h", "/www"}},
                                      {"linux", json::object()}}},
                                    {"sandbox_config", config}})
          .at("container_id");
  runtime_.call("StartContainer", {{"container_id", container_}});
}

CriPod::~CriPod() {
  try {
    runtime_.remove(sandbox_);
  } catch (const std::exception& error) {
    fmt::print(stderr, "pod {}: {}\n", name_, error.what());
  }
}

Address CriPod::ip(Family family) const {
  for (const Address& ip : ips_)
    if (ip.family() == family) return ip;
  throw std::runtime_error(fmt::format("pod {} has no such address", name_));
}

Output CriPod::exec(const std::vector<std::string>& command) const {
  const json answer =
      runtime_.call("ExecSync", {{"container_id", container_}, {"cmd", command}, {"timeout", 30}});
  return {.status = answer.value("exit_code", 0),
          .out = bytes_of(answer, "stdout"),
          .err = bytes_of(answer, "stderr")};
}

std::string CriPod::ask(const HostPort& to) const {
  const Output output = exec(ask_command(to));
  return output.status == 0 ? page_of(output.out) : output.err;
}

}  // namespace bpfnet::e2e
