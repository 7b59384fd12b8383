#include "control/cni/pending_deletes.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/fd.h"
#include "control/cni/wire.h"

namespace bpfnet::cni {

std::string pending_delete_file(const std::string& directory, const AttachmentKey& key) {
  return fmt::format("{}/{}.json", directory, host_ifname(key));
}

Status write_pending_delete(const std::string& directory, const DeleteRequest& request) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return fail_errno(error.value(), "pending delete: make {}", directory);
  const std::string path = pending_delete_file(directory, request.key);
  const std::string temporary = fmt::format("{}.{}.tmp", path, ::getpid());
  const std::string text = encode(request);
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "pending delete: open {}", temporary);
  const ssize_t written = ::write(fd.get(), text.data(), text.size());
  const bool whole = written == static_cast<ssize_t>(text.size()) && ::fsync(fd.get()) == 0 &&
                     ::rename(temporary.c_str(), path.c_str()) == 0;
  if (whole) return ok();
  const int code = errno;
  ::unlink(temporary.c_str());
  return fail_errno(code, "pending delete: write {}", path);
}

std::vector<PendingDelete> read_pending_deletes(const std::string& directory,
                                                std::vector<std::string>& problems) {
  std::vector<PendingDelete> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    auto request = decode_delete(text.str());
    if (!request) {
      problems.push_back(fmt::format("{}: {}", entry.path().string(), request.error().message));
      continue;
    }
    found.push_back({entry.path().string(), std::move(*request)});
  }
  if (error && error.value() != ENOENT) problems.push_back(fmt::format("{}: {}", directory, error.message()));
  return found;
}

}  // namespace bpfnet::cni
