#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>

#include "control/observe/views.h"
#include "maps/abi/reasons.h"

namespace bpfnet::observe {
namespace {

constexpr int kPollMs = 200;

struct Reader {
  FreshNames& names;
  LiveSets sets;
  const std::function<void(const View&)>& show;
  uint64_t since_ns;
};

int on_event(void* context, void* data, size_t size) {
  auto* reader = static_cast<Reader*>(context);
  packet_event event{};
  if (size < sizeof(event)) return 0;
  std::memcpy(&event, data, sizeof(event));
  // With tracing on the buffer has packets that passed as well.
  const bool told = event.verdict == VERDICT_DROP || (event.flags & EVENT_AUDITED) != 0;
  if (event.time_ns >= reader->since_ns && told)
    reader->show(event_view(event, reader->names.get(), &reader->sets));
  return 0;
}

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

Result<Fd> lock_reader(const std::string& pin_dir) {
  const std::string dir = maps::map_pin_dir(pin_dir);
  Fd lock(open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) return fail_errno(errno, "drops: open {}", dir);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return fail(
          "drops --follow: another bpfnetctl follows already, and the events have one reader; end that one, "
          "or look at the counters without --follow");
    return fail_errno(errno, "drops: lock {}", dir);
  }
  return lock;
}

}  // namespace

Status follow_drops(const maps::Maps& maps, const std::string& pin_dir, FreshNames& names,
                    const std::function<void(const View&)>& show, const std::function<bool()>& keep_on) {
  auto lock = lock_reader(pin_dir);
  if (!lock) return pass(lock);
  Reader reader{names, LiveSets(maps), show, monotonic_ns()};
  const std::unique_ptr<ring_buffer, decltype(&ring_buffer__free)> ring(
      ring_buffer__new(maps.events.fd(), on_event, &reader, nullptr), ring_buffer__free);
  if (!ring) return fail_errno(errno, "map events: read");
  while (keep_on()) {
    const int got = ring_buffer__poll(ring.get(), kPollMs);
    if (got < 0 && got != -EINTR) return fail_errno(got, "map events: read");
  }
  return ok();
}

}  // namespace bpfnet::observe
