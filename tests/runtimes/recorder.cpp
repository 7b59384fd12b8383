#include "tests/runtimes/recorder.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

namespace bpfnet::e2e {

namespace fs = std::filesystem;
using nlohmann::json;

std::string RecordedCall::variable(const std::string& name) const {
  const auto found = variables.find(name);
  return found == variables.end() ? "" : found->second;
}

PluginDirectory::PluginDirectory(const Node& node) : node_(node) {
  fs::create_directories(plugins() + "/calls");
  fs::create_directories(configurations());
  fs::copy_file(BPFNET_RUNTIMES_DIR "/recorder", plugins() + "/bpfnet-cni",
                fs::copy_options::overwrite_existing);
  fs::permissions(plugins() + "/bpfnet-cni", fs::perms(0755));
  // containerd runs it beside the configured ones (C25).
  std::error_code there;
  fs::create_symlink("/usr/lib/cni/loopback", plugins() + "/loopback", there);
}

std::vector<std::string> PluginDirectory::agent_flags() const {
  return {"--cni-bin-dir", node_.dir("cni-bin"), "--cni-conf", conflist()};
}

std::vector<RecordedCall> PluginDirectory::calls(const std::string& command) const {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(plugins() + "/calls"))
    if (!entry.path().filename().string().starts_with(".")) files.push_back(entry.path());
  std::ranges::sort(files);
  std::vector<RecordedCall> calls;
  for (const std::string& file : files) {
    RecordedCall call;
    std::istringstream text(read_text(file));
    for (std::string line; std::getline(text, line) && !line.empty();) {
      const size_t equals = line.find('=');
      call.variables[line.substr(0, equals)] = line.substr(equals + 1);
    }
    if (call.variable("CNI_COMMAND") != command) continue;
    call.config = json::parse(text);
    calls.push_back(std::move(call));
  }
  return calls;
}

void PluginDirectory::forget() const {
  for (const auto& entry : fs::directory_iterator(plugins() + "/calls")) fs::remove(entry.path());
}

json endpoint_of(const Node& node, const std::string& container_id, const std::string& ifname) {
  const json answer = node.api("/v1/endpoints");
  for (const json& endpoint : answer.at("endpoints"))
    if (endpoint.at("containerId") == container_id && endpoint.at("ifname") == ifname) return endpoint;
  return nullptr;
}

std::string image_file(const std::string& directory) {
  const std::string file = directory + "/image.tar";
  if (!fs::exists(file)) check_run({.argv = {BPFNET_RUNTIMES_DIR "/image", file, kImage}});
  return file;
}

}  // namespace bpfnet::e2e
