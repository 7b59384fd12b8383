#include "tests/e2e/judged_caller.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::e2e {
namespace {

using Clock = Lifetimes::Clock;

/// Longer than the kernel takes for three attempts.
constexpr milliseconds kPatience{8000};
constexpr size_t kPorts = 20000;
constexpr size_t kMostFailures = 10;

}  // namespace

JudgedCaller::JudgedCaller(const Netns& from, Options options, Lifetimes& backends,
                           std::function<HostPort(size_t n)> where)
    : from_(from), options_(std::move(options)), backends_(backends), where_(std::move(where)) {
  thread_ = std::thread([this] { run(); });
}

void JudgedCaller::finish() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void JudgedCaller::run() {
  const bool ends = options_.protocol == "udp";
  for (auto next = Clock::now(); !stop_; next = std::max(next + options_.interval, Clock::now())) {
    std::this_thread::sleep_until(next);
    if (ends && made_ == kPorts) return;
    if (failures_.size() < kMostFailures) attempt();
    ++made_;
  }
}

void JudgedCaller::attempt() {
  const HostPort to = where_(made_);
  SocketOptions options{.timeout = kPatience};
  if (options_.protocol == "udp") options.source_port = static_cast<uint16_t>(options_.first_port + made_);
  const auto begin = Clock::now();
  const auto seen = ask(from_, options_.protocol, to, options);
  const auto end = Clock::now();
  const std::string wrong = seen ? backends_.wrong(seen->server, begin, end) : seen.error().message;
  if (!wrong.empty())
    failures_.push_back(
        fmt::format("{} {} {} {}: {}", from_.name(), options_.protocol, made_.load(), to.to_string(), wrong));
}

}  // namespace bpfnet::e2e
