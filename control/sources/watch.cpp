#include "control/sources/watch.h"

#include <sys/inotify.h>

#include <array>
#include <cerrno>

namespace bpfnet::sources {
namespace {

constexpr uint32_t kDirectoryMask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE |
                                    IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr uint32_t kAncestorMask =
    IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

uint32_t meaning(uint32_t mask) {
  uint32_t result = 0;
  if ((mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0) result |= WatchEvents::kWritten;
  if ((mask & IN_CREATE) != 0) result |= WatchEvents::kCreated;
  if ((mask & (IN_DELETE | IN_MOVED_FROM)) != 0) result |= WatchEvents::kRemoved;
  if ((mask & IN_ATTRIB) != 0) result |= WatchEvents::kModeSet;
  return result;
}

}  // namespace

Result<DirectoryWatch> DirectoryWatch::open(const std::filesystem::path& directory) {
  DirectoryWatch watch;
  watch.inotify_ = Fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!watch.inotify_) return fail_errno(errno, "watch {}: inotify_init1", directory.string());
  std::error_code error;
  watch.directory_ = std::filesystem::absolute(directory, error).lexically_normal();
  if (!watch.directory_.has_filename()) watch.directory_ = watch.directory_.parent_path();
  watch.attach();
  return watch;
}

// The ancestor is watched first: whatever appears while we look for the directory is then an event.
void DirectoryWatch::attach() {
  const int old_ancestor = ancestor_watch_;
  const int old_watch = watch_;
  std::filesystem::path ancestor = directory_;
  do {
    awaited_ = ancestor.filename();
    ancestor = ancestor.parent_path();
    ancestor_watch_ = inotify_add_watch(inotify_.get(), ancestor.c_str(), kAncestorMask);
  } while (ancestor_watch_ < 0 && ancestor.has_relative_path());
  watch_ = inotify_add_watch(inotify_.get(), directory_.c_str(), kDirectoryMask);
  if (old_ancestor >= 0 && old_ancestor != ancestor_watch_) inotify_rm_watch(inotify_.get(), old_ancestor);
  if (old_watch >= 0 && old_watch != watch_) inotify_rm_watch(inotify_.get(), old_watch);
}

WatchEvents DirectoryWatch::read() {
  WatchEvents result;
  alignas(inotify_event) std::array<char, 16384> buffer;
  ssize_t length = 0;
  while ((length = ::read(inotify_.get(), buffer.data(), buffer.size())) > 0) {
    for (const char* at = buffer.data(); at < buffer.data() + length;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      at += sizeof(inotify_event) + event->len;
      const std::string name = event->len > 0 ? event->name : "";
      if ((event->mask & IN_Q_OVERFLOW) != 0) {
        result.rescan = true;
      } else if (event->wd == watch_ && name.empty()) {
        // Only what happens to the directory itself counts; IN_ATTRIB comes also when a link to it goes.
        if ((event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) == 0) continue;
        if ((event->mask & (IN_IGNORED | IN_DELETE_SELF)) != 0) watch_ = -1;
        attach();
        result.rescan = true;
      } else if (event->wd == watch_) {
        // A ConfigMap volume switches all of its files at once by renaming the link ..data.
        if (name == "..data") result.rescan = true;
        if (const uint32_t what = meaning(event->mask); what != 0) result.names[name] |= what;
      } else if (event->wd == ancestor_watch_ && (name == awaited_ || name.empty())) {
        if ((event->mask & (IN_IGNORED | IN_DELETE_SELF)) != 0) ancestor_watch_ = -1;
        attach();
        result.rescan = true;
      }
    }
  }
  return result;
}

}  // namespace bpfnet::sources
