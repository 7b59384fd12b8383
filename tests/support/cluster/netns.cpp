#include "tests/support/cluster/netns.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/cluster/process.h"

namespace bpfnet::e2e {
namespace {

std::vector<std::string> words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

std::string sysctl_path(const std::string& key) {
  return "/proc/sys/" + key;
}

}  // namespace

Netns::Netns(std::string name) : name_(std::move(name)) {
  if (std::filesystem::exists(path())) run({.argv = {"ip", "netns", "del", name_}});
  check_run({.argv = {"ip", "netns", "add", name_}});
  fd_ = Fd(::open(path().c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_) throw std::runtime_error(fmt::format("{}: {}", path(), std::strerror(errno)));
  // Addresses of a test are unique by construction: waiting for duplicate detection proves nothing.
  sysctl("net/ipv6/conf/all/accept_dad", "0");
  sysctl("net/ipv6/conf/default/accept_dad", "0");
  ip("link set lo up");
}

Netns::~Netns() {
  if (!fd_ || keep_) return;
  fd_.reset();
  run({.argv = {"ip", "netns", "del", name_}});
}

void Netns::enter() const {
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) {
    throw std::runtime_error(fmt::format("netns {}: setns: {}", name_, std::strerror(errno)));
  }
}

void Netns::ip(std::string_view lines) const {
  check_run({.argv = {"ip", "-n", name_, "-batch", "-"}, .input = std::string(lines) + "\n"});
}

std::string Netns::ip_show(std::string_view command) const {
  std::vector<std::string> argv = {"ip", "-n", name_};
  for (auto& word : words(command)) argv.push_back(std::move(word));
  return check_run({.argv = argv});
}

void Netns::sysctl(const std::string& key, const std::string& value) const {
  const bool written = in([&] {
    std::ofstream file(sysctl_path(key));
    file << value;
    file.flush();
    return file.good();
  });
  if (!written) throw std::runtime_error(fmt::format("netns {}: sysctl {} = {} refused", name_, key, value));
}

std::string Netns::sysctl(const std::string& key) const {
  return in([&] {
    std::ifstream file(sysctl_path(key));
    std::string value;
    std::getline(file, value);
    return value;
  });
}

void remove_netns(std::string_view prefix) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/run/netns", none)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(prefix)) run({.argv = {"ip", "netns", "del", name}});
  }
}

}  // namespace bpfnet::e2e
