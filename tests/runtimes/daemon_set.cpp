#include "tests/runtimes/daemon_set.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

constexpr milliseconds kInitDeadline{60000};
constexpr int kHostNamespace = 2;
constexpr int kExited = 2;

/// The object of this kind and name in deploy/kubernetes.
YAML::Node object(const std::string& kind, const std::string& name) {
  for (const YAML::Node& each : YAML::LoadAllFromFile(BPFNET_DEPLOY_DIR "/kubernetes/bpfnet.yaml"))
    if (each["kind"].as<std::string>() == kind && each["metadata"]["name"].as<std::string>() == name)
      return each;
  throw std::runtime_error(fmt::format("deploy/kubernetes has no {} {}", kind, name));
}

/// The ConfigMap's file, with what stands for the API server here: manifests in a directory.
std::string agent_config(const Node& node) {
  std::istringstream lines(object("ConfigMap", "bpfnet")["data"]["bpfnetd.conf"].as<std::string>());
  std::string text;
  const std::set<std::string> replaced = {"source", "api-server"};
  for (std::string line; std::getline(lines, line);) {
    if (!replaced.contains(line.substr(0, line.find('=')))) text += line + "\n";
  }
  return text + fmt::format("manifests=\"{}\"\n", node.dir("manifests"));
}

int propagation(const std::string& name) {
  return name == "Bidirectional" ? 2 : name == "HostToContainer" ? 1 : 0;
}

json strings(const YAML::Node& list) {
  json all = json::array();
  for (const YAML::Node& each : list) all.push_back(each.as<std::string>());
  return all;
}

/// As kubelet makes it of a container's securityContext, with the defaults of Kubernetes.
json security_context(const YAML::Node& wanted) {
  const bool privileged = wanted["privileged"].as<bool>(false);
  json context = {{"privileged", privileged},
                  {"namespace_options", {{"network", kHostNamespace}, {"pid", 1}}},
                  {"readonly_rootfs", wanted["readOnlyRootFilesystem"].as<bool>(false)},
                  {"no_new_privs", !privileged && !wanted["allowPrivilegeEscalation"].as<bool>(true)}};
  if (privileged) {
    context["seccomp"] = {{"profile_type", "Unconfined"}};
    return context;
  }
  context["capabilities"] = {{"add_capabilities", strings(wanted["capabilities"]["add"])},
                             {"drop_capabilities", strings(wanted["capabilities"]["drop"])}};
  context["seccomp"] = {{"profile_type", "RuntimeDefault"}};
  context["masked_paths"] = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"};
  context["readonly_paths"] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return context;
}

std::string expanded(std::string text, const std::string& node_name) {
  const std::string variable = "$(NODE_NAME)";
  if (const size_t at = text.find(variable); at != std::string::npos)
    text.replace(at, variable.size(), node_name);
  return text;
}

json container_config(const Node& node, const YAML::Node& pod, const YAML::Node& container) {
  std::map<std::string, std::string> volumes;
  for (const YAML::Node& volume : pod["volumes"]) {
    const std::string name = volume["name"].as<std::string>();
    volumes[name] = volume["configMap"]
                        ? node.dir("config")
                        : DaemonSetPod::host_path(node, volume["hostPath"]["path"].as<std::string>());
  }
  const std::string name = container["name"].as<std::string>();
  json config = {
      {"metadata", {{"name", name}}},
      {"image", {{"image", container["image"].as<std::string>()}}},
      {"command", json::array()},
      {"mounts", {{{"container_path", node.dir("manifests")}, {"host_path", node.dir("manifests")}}}},
      {"log_path", name + ".log"},
      {"linux", {{"security_context", security_context(container["securityContext"])}}}};
  for (const YAML::Node& word : container["command"])
    config["command"].push_back(expanded(word.as<std::string>(), node.name()));
  for (const YAML::Node& mount : container["volumeMounts"]) {
    const std::string host = volumes.at(mount["name"].as<std::string>());
    std::filesystem::create_directories(host);
    config["mounts"].push_back(
        {{"container_path", mount["mountPath"].as<std::string>()},
         {"host_path", host},
         {"readonly", mount["readOnly"].as<bool>(false)},
         {"propagation", propagation(mount["mountPropagation"].as<std::string>("None"))}});
  }
  return config;
}

}  // namespace

std::string agent_image_name() {
  const auto pod = object("DaemonSet", "bpfnet")["spec"]["template"]["spec"];
  return "docker.io/" + pod["containers"][0]["image"].as<std::string>();
}

std::string DaemonSetPod::host_path(const Node& node, const std::string& path) {
  const bool real = path.starts_with("/sys/") || path.starts_with("/run/");
  return real ? path : node.dir("host") + path;
}

DaemonSetPod::DaemonSetPod(const Node& node, Containerd& runtime, const std::string& name)
    : node_(node), runtime_(runtime), name_(name) {
  const YAML::Node pod = object("DaemonSet", name)["spec"]["template"]["spec"];
  std::filesystem::create_directories(node.dir("config"));
  write_atomically(node.dir("config/bpfnetd.conf"), agent_config(node));
  sandbox_config_ = {
      {"metadata", {{"name", name}, {"uid", "uid-" + name}, {"namespace", "kube-system"}}},
      {"log_directory", node.dir("logs-" + name)},
      {"linux",
       {{"cgroup_parent", "/bpfnet-test-runtimes"},
        {"security_context",
         {{"namespace_options", {{"network", kHostNamespace}, {"pid", 1}}}, {"privileged", true}}}}}};
  sandbox_ = runtime_.run_sandbox(sandbox_config_);
  for (const YAML::Node& each : pod["initContainers"]) {
    const std::string container = each["name"].as<std::string>();
    run_to_end(create(container_config(node, pod, each), container), container);
  }
  for (const YAML::Node& each : pod["containers"]) {
    const std::string container = each["name"].as<std::string>();
    runtime_.call("StartContainer", {{"container_id", create(container_config(node, pod, each), container)}});
  }
}

DaemonSetPod::~DaemonSetPod() {
  try {
    runtime_.remove(sandbox_);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", name_, error.what());
  }
}

std::string DaemonSetPod::log(const std::string& container) const {
  return read_text(fmt::format("{}/{}.log", node_.dir("logs-" + name_), container));
}

std::string DaemonSetPod::create(const json& config, const std::string& container_name) {
  const json request = {
      {"pod_sandbox_id", sandbox_}, {"config", config}, {"sandbox_config", sandbox_config_}};
  return containers_[container_name] = runtime_.call("CreateContainer", request).at("container_id");
}

json DaemonSetPod::status(const std::string& id) const {
  return runtime_.call("ContainerStatus", {{"container_id", id}}).at("status");
}

void DaemonSetPod::run_to_end(const std::string& id, const std::string& container) {
  runtime_.call("StartContainer", {{"container_id", id}});
  json last;
  const bool ended =
      eventually([&] { return (last = status(id)).value("state", 0) == kExited; }, kInitDeadline);
  if (!ended || last.value("exit_code", 0) != 0)
    throw std::runtime_error(
        fmt::format("{}, container {}: {}\n{}", name_, container, last.dump(), log(container)));
}

int DaemonSetPod::stop(const std::string& container) {
  const std::string id = containers_.at(container);
  runtime_.call("StopContainer", {{"container_id", id}, {"timeout", 10}});
  return status(id).value("exit_code", 0);
}

}  // namespace bpfnet::e2e
