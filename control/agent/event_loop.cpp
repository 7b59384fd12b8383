#include "control/agent/event_loop.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

namespace bpfnet::agent {

EventLoop::EventLoop(Fd epoll, WakeFd wake, Fd timer, Fd signals)
    : epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      timer_(std::move(timer)),
      signals_(std::move(signals)) {}

EventLoop::~EventLoop() {
  std::vector<Work> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(posted_);
  }
}

Result<std::unique_ptr<EventLoop>> EventLoop::make(const std::vector<int>& signals,
                                                   std::function<void(int)> on_signal) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return fail_errno(errno, "event loop: block signals");

  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  WakeFd wake;
  Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  Fd signal_fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!epoll || !wake.valid() || !timer || !signal_fd)
    return fail_errno(errno, "event loop: create descriptors");

  std::unique_ptr<EventLoop> loop(
      new EventLoop(std::move(epoll), std::move(wake), std::move(timer), std::move(signal_fd)));
  EventLoop* self = loop.get();
  BPFNET_TRY(loop->watch(loop->wake_.get(), [self] { self->run_posted(); }));
  BPFNET_TRY(loop->watch(loop->timer_.get(), [self] { self->run_timers(); }));
  BPFNET_TRY(loop->watch(loop->signals_.get(), [self, on_signal = std::move(on_signal)] {
    signalfd_siginfo info{};
    while (read(self->signals_.get(), &info, sizeof(info)) == sizeof(info))
      on_signal(static_cast<int>(info.ssi_signo));
  }));
  return loop;
}

Status EventLoop::watch(int fd, Work ready) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_errno(errno, "event loop: watch descriptor {}", fd);
  watched_[fd] = std::make_shared<Work>(std::move(ready));
  return ok();
}

void EventLoop::unwatch(int fd) {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched_.erase(fd);
}

void EventLoop::post(Work work) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  posted_.push_back(std::move(work));
  wake_.signal();
}

void EventLoop::run_posted() {
  wake_.drain();
  std::vector<Work> now;
  {
    const std::lock_guard lock(mutex_);
    now.swap(posted_);
  }
  for (Work& work : now) work();
}

void EventLoop::set_timer(int id, std::optional<Clock::time_point> when, Work work) {
  if (when) {
    timers_[id] = {.when = *when, .work = std::move(work)};
  } else {
    timers_.erase(id);
  }
  arm();
}

void EventLoop::arm() {
  itimerspec spec{};
  const auto first = std::min_element(timers_.begin(), timers_.end(), [](const auto& a, const auto& b) {
    return a.second.when < b.second.when;
  });
  if (first != timers_.end()) {
    // steady_clock is CLOCK_MONOTONIC; a time of zero would disarm.
    const auto since = std::max(first->second.when.time_since_epoch(), Clock::duration(1));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
    spec.it_value.tv_sec = seconds.count();
    spec.it_value.tv_nsec = std::chrono::nanoseconds(since - seconds).count();
  }
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

void EventLoop::run_timers() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(timer_.get(), &count, sizeof(count));
  const auto now = Clock::now();
  std::vector<Work> due;
  for (auto timer = timers_.begin(); timer != timers_.end();) {
    if (timer->second.when > now) {
      ++timer;
      continue;
    }
    due.push_back(std::move(timer->second.work));
    timer = timers_.erase(timer);
  }
  for (Work& work : due) work();
  arm();
}

Status EventLoop::run() {
  std::array<epoll_event, 16> events{};
  while (!stopping_) {
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "event loop: wait");
    for (int i = 0; i < count && !stopping_; ++i) {
      auto found = watched_.find(events[static_cast<size_t>(i)].data.fd);
      if (found == watched_.end()) continue;
      const std::shared_ptr<Work> work = found->second;  // it may unwatch itself
      (*work)();
    }
  }
  std::vector<Work> left;
  const std::lock_guard lock(mutex_);
  closed_ = true;
  left.swap(posted_);
  return ok();
}

}  // namespace bpfnet::agent
