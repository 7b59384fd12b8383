#include "tests/runtimes/podman.h"

#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

namespace bpfnet::e2e {

using nlohmann::json;

Podman::Podman(const Node& node, const PluginDirectory& cni) : node_(node), dir_(node.dir("podman")) {
  std::filesystem::create_directories(dir_);
  // crun refuses some hosts' cgroups; the limits are what a host without CAP_SYS_RESOURCE can give.
  write_atomically(dir_ + "/containers.conf", fmt::format(R"([engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=8192:8192"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["{}"]
network_config_dir = "{}"
)",
                                                          cni.plugins(), cni.configurations()));
  must({"load", "--quiet", "--input", image_file(dir_)});
}

Podman::~Podman() {
  const Output removed = run({"rm", "--all", "--force", "--time", "0"});
  if (removed.status != 0) fmt::print(stderr, "podman rm: {}\n", removed.err);
}

Output Podman::run(const std::vector<std::string>& args) const {
  Command command{.argv = {"podman", "--root", dir_ + "/storage", "--runroot", dir_ + "/run", "--tmpdir",
                           dir_ + "/tmp", "--storage-driver", "overlay"},
                  .env = {{"CONTAINERS_CONF", dir_ + "/containers.conf"}},
                  .netns = node_.netns().fd()};
  command.argv.insert(command.argv.end(), args.begin(), args.end());
  return e2e::run(command);
}

std::string Podman::must(const std::vector<std::string>& args) const {
  Output output = run(args);
  if (output.status != 0)
    throw std::runtime_error(fmt::format("podman {}: {}{}", fmt::join(args, " "), output.out, output.err));
  while (output.out.ends_with('\n')) output.out.pop_back();
  return output.out;
}

std::string Podman::serve(const std::string& name, const std::vector<std::string>& options) const {
  std::vector<std::string> args = {"run",        "--detach", "--name",          name,
                                   "--hostname", name,       "--cgroup-parent", "bpfnet-test-runtimes"};
  args.insert(args.end(), options.begin(), options.end());
  args.insert(args.end(), {kImage, "httpd", "-f", "-p", "8080", "-h", "/www"});
  return must(args);
}

json Podman::network_of(const std::string& container, const std::string& network) const {
  return json::parse(must({"inspect", container})).at(0).at("NetworkSettings").at("Networks").at(network);
}

}  // namespace bpfnet::e2e
