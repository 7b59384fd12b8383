#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/http/server_access.h"

namespace bpfnet::http {

struct Request {
  std::string method = "GET";
  std::string url;                                           ///< absolute, encoded (encode())
  std::vector<std::pair<std::string, std::string>> headers;  ///< besides Host and Authorization
  std::string body;                                          ///< sent with its length if not empty
  std::chrono::milliseconds connect_timeout{10'000};         ///< until the connection (and TLS) stands
  std::chrono::milliseconds deadline{0};                     ///< for all of it; 0: none
  std::chrono::seconds stall{0};                             ///< longest time without a byte; 0: any
};

/// The answer's beginning.
struct Head {
  int status = 0;
  std::optional<std::chrono::seconds> retry_after;
  std::string content_type;  ///< without parameters, in lower case
};

enum class Failure : uint8_t {
  kNone,       ///< an answer came to its proper end, whatever its status
  kRefused,    ///< nobody listens there
  kUnreached,  ///< no address, no route, no connection in time, proxy failed
  kTls,        ///< one of the two sides does not trust the other
  kSecret,     ///< certificate, key or token is not to be had; nothing was sent
  kTimeout,    ///< deadline or stall
  kBroken,     ///< the connection ended or spoke nonsense in the middle
  kStopped,    ///< the receiver of data said so
};

struct Outcome {
  Failure failure = Failure::kNone;
  int status = 0;       ///< 0: no answer began
  std::string message;  ///< what went wrong; empty without a failure
};

/// Called on the client's thread. All are optional; `done` comes once and last, or never after cancel().
struct Receiver {
  std::function<void(const Head&)> head;
  std::function<bool(std::string_view)> data;  ///< of the body, cut anywhere; false: no more of it
  std::function<void(const Outcome&)> done;
};

/// A whole answer.
struct Reply {
  Head head;
  std::string body;
};

/// HTTP/1.1 requests to one server, any number at a time, on one thread of its own (curl_multi). Connections
/// are kept and used again; a peer that is gone without a word is noticed by TCP within 45 seconds
/// (keepalive, user timeout). Environment and secrets: ServerAccess. Redirections are not followed.
///
/// A program of several steps lives on the client's thread: it enters by post(), waits by after() and is
/// called back by Receivers, so that it needs no locks.
class Client {
 public:
  using Work = std::function<void()>;
  using Clock = std::chrono::steady_clock;
  using Id = uint64_t;  ///< never 0

  /// `name` is the thread's, at most 15 characters. The thread has the caller's network namespace and takes
  /// no signals.
  static Result<std::unique_ptr<Client>> start(const std::string& name, ServerAccess access);
  /// Ends the thread; no Receiver and no Work is called any more.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // From any thread.
  void post(Work work);
  /// A request whose answer is taken whole, at most `limit` bytes; waits for it. Not on the client's thread.
  /// Errors: no proper answer. A status such as 500 is an answer.
  Result<Reply> fetch(Request request, size_t limit = size_t{64} << 20);

  // On the client's thread.
  Id after(std::chrono::milliseconds delay, Work work);
  Id send(Request request, Receiver receiver);
  /// The same with the answer in one piece; `limit`: bytes of body.
  Id ask(Request request, size_t limit, std::function<void(Result<Reply>)> done);
  /// Ends a request, or a wait of after(), without a further call. An id that is done is none.
  void cancel(Id id);

  [[nodiscard]] const ServerAccess& access() const { return access_; }

 private:
  class Transfer;
  struct Multi;
  struct Timer {
    Clock::time_point when;
    Work work;
  };

  explicit Client(ServerAccess access);
  void run();
  void run_posted();
  void run_timers();
  void finish_transfers();
  void finish(Id id, const Outcome& outcome);
  [[nodiscard]] int wait_ms() const;

  ServerAccess access_;
  std::unique_ptr<Multi> multi_;
  std::map<Id, std::unique_ptr<Transfer>> transfers_;
  std::vector<std::unique_ptr<Transfer>> cancelled_;  ///< gone as soon as no call of theirs is on the stack
  std::map<Id, Timer> timers_;
  Id next_id_ = 1;
  std::mutex mutex_;
  std::vector<Work> posted_;
  bool closed_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

/// Percent-encodes all but letters, digits and `-._~`: for a part of a path and for names and values of a
/// query.
std::string encode(std::string_view text);

}  // namespace bpfnet::http
