#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/wake_fd.h"
#include "control/health/listen_address.h"

struct MHD_Daemon;
struct MHD_Connection;

namespace bpfnet::health {

struct Request {
  std::string method;  ///< `GET`
  std::string path;    ///< without the query
};

struct Answer {
  unsigned status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  ///< besides Content-Type and nosniff

  static Answer text(std::string body, unsigned status = 200) {
    return {.status = status, .body = std::move(body)};
  }
  static Answer json(std::string body, unsigned status = 200) {
    return {.status = status, .content_type = "application/json", .body = std::move(body)};
  }
};

/// Any number of listeners, one thread: hundreds of health checks cost hundreds of sockets and nothing else,
/// and they answer while the agent's own loop is busy or stuck. HTTP/1.1, one request a connection. Handlers
/// run on the server's thread, one at a time: they must not wait for anything.
class HttpServer {
 public:
  using Handler = std::function<Answer(const Request&)>;
  using Work = std::function<void()>;
  using Clock = std::chrono::steady_clock;

  static Result<std::unique_ptr<HttpServer>> start();
  /// Ends the thread, then closes everything.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;

  // From any thread; the socket is opened in the caller's network namespace.

  /// Gives the listener's id, never 0. The error's code is the errno.
  Result<uint64_t> listen(const ListenAddress& where, Handler handler);
  /// The port a listener has; 0: no such listener.
  [[nodiscard]] uint16_t port(uint64_t id) const;
  /// The port is free when this returns; connections not yet answered are closed unanswered.
  void close(uint64_t id);
  /// Runs `work` once on the server's thread.
  void after(std::chrono::milliseconds delay, Work work);

 private:
  struct Listener {
    Fd fd;
    std::shared_ptr<const Handler> handler;
  };
  struct Callbacks;  ///< what the HTTP library calls

  HttpServer(Fd epoll, WakeFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void run();
  void accept_on(uint64_t id);
  void pause(uint64_t id);
  void watch(uint64_t id, bool on) const;  ///< with mutex_ held
  void run_due();
  [[nodiscard]] int wait_ms() const;

  Fd epoll_;
  WakeFd wake_;
  MHD_Daemon* daemon_ = nullptr;
  uint64_t accepting_ = 0;  ///< the listener whose connection is being added
  mutable std::mutex mutex_;
  std::map<uint64_t, Listener> listeners_;
  std::multimap<Clock::time_point, Work> timers_;
  uint64_t next_id_ = 2;  ///< 0 and 1 are the library's and the wake-up's in epoll
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace bpfnet::health
