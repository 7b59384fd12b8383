#pragma once

#include <functional>
#include <map>
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

struct Request {
  std::string body;
  std::map<std::string, std::string> query;  ///< parameters after `?`, the first of each name
  [[nodiscard]] std::string parameter(const std::string& name) const {
    auto found = query.find(name);
    return found == query.end() ? std::string() : found->second;
  }
};

/// HTTP/JSON on a unix socket (mode 0660), served by threads of its own: a slow handler holds up nobody but
/// its caller. Handlers run on those threads, several at once. A body larger than 1 MiB is answered with 413,
/// an unknown route with 404, an exception of a handler with 500, all as JSON.
class Server {
 public:
  using Handler = std::function<Answer(const Request& request)>;

  /// A socket file nobody listens on is replaced; one that answers is refused: another agent runs.
  static Result<std::unique_ptr<Server>> listen(const std::string& path, int threads = 8);
  /// stop()s.
  ~Server();

  void get(const std::string& path, Handler handler);
  void post(const std::string& path, Handler handler);

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
