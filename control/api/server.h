#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"

namespace bpfnet::api {

/// An answer: the body of a success, or {"error": {"code", "message"}} with the HTTP status.
struct Answer {
  int status = 200;
  std::string body;  ///< JSON

  static Answer json(const nlohmann::json& body);
  static Answer json(const nlohmann::ordered_json& body);
  /// `code`: a CNI error code (C7), or the HTTP status where CNI is not concerned.
  static Answer error(int status, int code, const std::string& message);
};

/// HTTP/JSON on a unix socket (mode 0660), served by threads of its own: a slow handler holds up nobody but
/// its caller. Handlers run on those threads. A body that is no JSON object, is larger than 1 MiB or is
/// missing is answered with 400 or 413 before any handler is called.
class Server {
 public:
  using Get = std::function<Answer()>;
  using Post = std::function<Answer(const nlohmann::json& request)>;

  /// A socket file nobody listens on is replaced; one that answers is refused: another agent runs.
  static Result<std::unique_ptr<Server>> listen(const std::string& path, int threads = 8);
  /// stop()s.
  ~Server();

  void get(const std::string& path, Get handler);
  void post(const std::string& path, Post handler);

  /// Starts serving on its own threads; routes are fixed from now on.
  void start();
  /// Finishes requests under way, takes the socket file away.
  void stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bpfnet::api
