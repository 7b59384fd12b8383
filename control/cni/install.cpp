#include "control/cni/install.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/fd.h"
#include "base/fd_io.h"
#include "control/cni/version.h"

namespace bpfnet::cni {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPluginName = "bpfnet-cni";

/// ENOENT when there is no such file.
Result<std::string> read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "{}: open", path);
  return read_fd(fd.get(), path, SIZE_MAX);
}

bool holds(const std::string& path, const std::string& text) {
  const auto present = read_file(path);
  return present && *present == text;
}

/// Writes a hidden file beside `path`, whose name no runtime reads, and renames it: readers see the old file
/// or the new one.
Status replace_file(const std::string& path, const std::string& text, mode_t mode) {
  const fs::path target(path);
  const std::string temporary =
      (target.parent_path() / fmt::format(".{}.{}.new", target.filename().string(), ::getpid())).string();
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return fail_errno(errno, "{}: create", temporary);
  bool whole = write_fd(fd.get(), temporary, text) && ::fchmod(fd.get(), mode) == 0 && ::fsync(fd.get()) == 0;
  if (whole) {
    fd.reset();  // a program that somebody has open to write cannot be run
    whole = ::rename(temporary.c_str(), path.c_str()) == 0;
  }
  if (whole) return ok();
  const int code = errno;
  ::unlink(temporary.c_str());
  return fail_errno(code, "{}: write", path);
}

/// Does any plugin of this configuration bear our name?
bool names_our_plugin(const std::string& text) {
  const auto conf = nlohmann::json::parse(text, nullptr, false);
  if (!conf.is_object() || !conf.contains("plugins") || !conf["plugins"].is_array()) return false;
  return std::ranges::any_of(conf["plugins"], [](const nlohmann::json& plugin) {
    return plugin.is_object() && plugin.contains("type") && plugin["type"] == kPluginName;
  });
}

}  // namespace

std::string conflist_text(const ConflistOptions& options) {
  auto versions = nlohmann::ordered_json::array();
  for (const Version version : kVersions) versions.push_back(version.to_string());
  const nlohmann::ordered_json conf = {
      {"cniVersion", "1.0.0"},
      {"cniVersions", versions},
      {"name", options.network},
      {"plugins",
       {{{"type", kPluginName},
         {"socket", options.socket},
         {"stateDir", options.state_dir},
         {"capabilities",
          {{"portMappings", true}, {"ips", true}, {"mac", true}, {"ipRanges", true}, {"dns", true}}}}}}};
  return conf.dump(2) + "\n";
}

Result<std::string> own_plugin() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) return fail_errno(error.value(), "/proc/self/exe: read");
  const fs::path beside = self.parent_path() / kPluginName;
  const fs::path installed = self.parent_path().parent_path() / "lib/cni" / kPluginName;
  for (const fs::path& path : {beside, installed})
    if (fs::exists(path, error)) return path.string();
  return fail("CNI plugin: neither {} nor {} is there", beside.string(), installed.string());
}

Result<bool> install_plugin(const std::string& plugin, const std::string& directory) {
  auto program = read_file(plugin);
  if (!program) return pass(program, "CNI plugin");
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail_errno(error.value(), "CNI plugin: make {}", directory);
  const std::string path = directory + "/" + kPluginName;
  if (holds(path, *program) && ::access(path.c_str(), X_OK) == 0) return false;
  if (Status written = replace_file(path, *program, 0755); !written) return pass(written, "CNI plugin");
  return true;
}

Status remove_plugin(const std::string& directory) {
  const std::string path = directory + "/" + kPluginName;
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return ok();
  return fail_errno(errno, "CNI plugin: remove {}", path);
}

Result<bool> write_conflist(const std::string& path, const std::string& text) {
  if (holds(path, text)) return false;
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) return fail_errno(error.value(), "CNI configuration: {}: make its directory", path);
  if (Status written = replace_file(path, text, 0644); !written) return pass(written, "CNI configuration");
  // containerd looks again at a write, and at a rename only by the old name: the last byte once more.
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const auto last = static_cast<off_t>(text.size()) - 1;
  if (!fd || ::pwrite(fd.get(), text.data() + last, 1, last) != 1)
    return fail_errno(errno, "CNI configuration: {}: touch", path);
  return true;
}

Status remove_conflist(const std::string& path) {
  const auto text = read_file(path);
  if (!text && text.error().code == ENOENT) return ok();
  if (!text) return pass(text, "CNI configuration");
  if (!names_our_plugin(*text))
    return fail("CNI configuration: {} does not name {}: it is left as it is", path, kPluginName);
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return ok();
  return fail_errno(errno, "CNI configuration: remove {}", path);
}

std::string earlier_conflist(const std::string& path) {
  const fs::path own(path);
  std::string first = own.filename();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(own.parent_path(), error)) {
    const std::string extension = entry.path().extension();
    if (extension != ".conf" && extension != ".conflist" && extension != ".json") continue;
    first = std::min(first, entry.path().filename().string());
  }
  return first == own.filename() ? std::string() : (own.parent_path() / first).string();
}

}  // namespace bpfnet::cni
