#include "control/api/server.h"

#include <httplib.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/fd.h"

namespace bpfnet::api {
namespace {

constexpr size_t kMaxBody = 1 << 20;
constexpr int kBacklog = 128;

/// cpp-httplib listens on TCP only; its accept loop does not mind what the socket is.
class UnixHttpServer : public httplib::Server {
 public:
  explicit UnixHttpServer(Fd listener) { svr_sock_ = listener.release(); }
  /// Makes accept() return, which ends listen_after_bind().
  void end() {
    const socket_t listener = svr_sock_;
    if (listener != INVALID_SOCKET) ::shutdown(listener, SHUT_RDWR);
  }
};

Result<sockaddr_un> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    return fail("socket {}: the path must have 1 to {} characters", path, sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// Takes a socket file away that nobody listens on.
Status clear_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return ok();
  if (!S_ISSOCK(info.st_mode)) return fail("socket {}: a file that is no socket is in the way", path);
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe) return fail_errno(errno, "socket {}: create", path);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
    return fail("socket {}: another agent answers there; stop it or give this one another --socket", path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "socket {}: remove stale", path);
  return ok();
}

Result<Fd> listen_on(const std::string& path) {
  auto address = socket_address(path);
  if (!address) return pass(address);
  std::error_code ignored;  // bind tells what is wrong
  const auto directory = std::filesystem::path(path).parent_path();
  if (!directory.empty()) std::filesystem::create_directories(directory, ignored);
  BPFNET_TRY(clear_stale(path, *address));
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return fail_errno(errno, "socket {}: create", path);
  const mode_t mask = umask(0117);
  const int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address));
  const int error = errno;
  umask(mask);
  if (bound != 0) return fail_errno(error, "socket {}: bind", path);
  if (::listen(listener.get(), kBacklog) != 0) return fail_errno(errno, "socket {}: listen", path);
  return listener;
}

void write_answer(httplib::Response& response, const Answer& answer) {
  response.status = answer.status;
  response.set_content(answer.body, "application/json");
}

Request take_request(const httplib::Request& request) {
  Request taken{.body = request.body, .query = {}};
  for (const auto& [name, value] : request.params) taken.query.try_emplace(name, value);
  return taken;
}

}  // namespace

Answer Answer::json(const nlohmann::json& body) {
  return {.status = 200, .body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

Answer Answer::json(const nlohmann::ordered_json& body) {
  return {.status = 200, .body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

Answer Answer::error(int status, int code, const std::string& message) {
  const nlohmann::json body = {{"error", {{"code", code}, {"message", message}}}};
  return {.status = status, .body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

struct Server::Impl {
  Impl(std::string where, Fd listener) : path(std::move(where)), http(std::move(listener)) {}
  std::string path;
  UnixHttpServer http;
  std::thread thread;
  bool stopped = false;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::listen(const std::string& path, int threads) {
  auto listener = listen_on(path);
  if (!listener) return pass(listener);
  auto impl = std::make_unique<Impl>(path, std::move(*listener));
  auto& http = impl->http;
  http.new_task_queue = [threads] { return new httplib::ThreadPool(static_cast<size_t>(threads)); };
  http.set_payload_max_length(kMaxBody);
  http.set_keep_alive_max_count(1);  // an idle connection would hold a thread
  http.set_read_timeout(10);
  http.set_write_timeout(10);
  http.set_exception_handler(
      [](const httplib::Request& request, httplib::Response& response, const std::exception_ptr& thrown) {
        std::string what = "unknown exception";
        try {
          std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
          what = error.what();
        } catch (...) {
        }
        spdlog::error("local API: {}: {}", request.path, what);
        write_answer(response, Answer::error(500, 500, "internal error: " + what));
      });
  http.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    const int status = response.status;
    const std::string message = status == 404
                                    ? fmt::format("no such route: {} {}", request.method, request.path)
                                : status == 413 ? fmt::format("the request is larger than {} bytes", kMaxBody)
                                                : fmt::format("HTTP status {}", status);
    write_answer(response, Answer::error(status, status, message));
  });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  stop();
}

void Server::get(const std::string& path, Handler handler) {
  impl_->http.Get(
      path, [handler = std::move(handler)](const httplib::Request& request, httplib::Response& response) {
        write_answer(response, handler(take_request(request)));
      });
}

void Server::post(const std::string& path, Handler handler) {
  impl_->http.Post(
      path, [handler = std::move(handler)](const httplib::Request& request, httplib::Response& response) {
        write_answer(response, handler(take_request(request)));
      });
}

void Server::start() {
  impl_->thread = std::thread([this] { impl_->http.listen_after_bind(); });
}

void Server::stop() {
  if (impl_->stopped) return;
  impl_->stopped = true;
  // Taken away first: whoever comes now is told at once that no agent is there.
  unlink(impl_->path.c_str());
  impl_->http.end();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace bpfnet::api
