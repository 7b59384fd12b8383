#include "control/health/http_server.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>

namespace bpfnet::health {
namespace {

// Ports that outsiders reach: what one client, or all of them, can hold open is bounded, and not for long.
constexpr unsigned kConnections = 1024;
constexpr unsigned kConnectionsPerAddress = 256;
constexpr unsigned kTimeoutSeconds = 10;
constexpr int kAcceptsAtOnce = 64;
constexpr std::chrono::milliseconds kPause{100};
constexpr uint64_t kLibrary = 0;
constexpr uint64_t kWake = 1;

void add(MHD_Response* response, const char* name, const std::string& value) {
  MHD_add_response_header(response, name, value.c_str());
}

MHD_Result send(MHD_Connection* connection, const Answer& answer) {
  MHD_Response* response = MHD_create_response_from_buffer(
      answer.body.size(), const_cast<char*>(answer.body.data()), MHD_RESPMEM_MUST_COPY);
  if (!response) return MHD_NO;
  add(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.content_type);
  add(response, "X-Content-Type-Options", "nosniff");
  // A port that is closed leaves no connection behind.
  add(response, MHD_HTTP_HEADER_CONNECTION, "close");
  for (const auto& [name, value] : answer.headers) add(response, name.c_str(), value);
  const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
  MHD_destroy_response(response);
  return queued;
}

Answer call(const HttpServer::Handler& handler, const Request& request) {
  try {
    return handler(request);
  } catch (const std::exception& error) {
    spdlog::error("http {}: {}", request.path, error.what());
    return Answer::text(error.what(), 500);
  }
}

}  // namespace

struct HttpServer::Callbacks {
  static void connection(void* self, MHD_Connection*, void** context, MHD_ConnectionNotificationCode code) {
    // An id, not a pointer, in the place that the library keeps for us: a listener may be gone by then.
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
      // NOLINTNEXTLINE(performance-no-int-to-ptr)
      *context = reinterpret_cast<void*>(static_cast<HttpServer*>(self)->accepting_);
  }

  static MHD_Result request(void* self, MHD_Connection* connection, const char* url, const char* method,
                            const char*, const char*, size_t* upload, void** seen) {
    static char begun;
    if (!*seen) {  // the headers are here, a body may follow
      *seen = &begun;
      return MHD_YES;
    }
    if (*upload != 0) {
      *upload = 0;
      return MHD_YES;
    }
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    auto* server = static_cast<HttpServer*>(self);
    std::shared_ptr<const Handler> handler;
    if (info) {
      const std::lock_guard lock(server->mutex_);
      auto found = server->listeners_.find(reinterpret_cast<uint64_t>(info->socket_context));
      if (found != server->listeners_.end()) handler = found->second.handler;
    }
    if (!handler) return MHD_NO;  // its listener was closed meanwhile
    return send(connection, call(*handler, {.method = method, .path = url}));
  }
};

Result<std::unique_ptr<HttpServer>> HttpServer::start() {
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  WakeFd wake;
  if (!epoll || !wake.valid()) return fail_errno(errno, "http server: epoll");
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(epoll), std::move(wake)));
  server->daemon_ = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, nullptr, nullptr,
                                     &Callbacks::request, server.get(), MHD_OPTION_NOTIFY_CONNECTION,
                                     &Callbacks::connection, server.get(), MHD_OPTION_CONNECTION_LIMIT,
                                     kConnections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, kConnectionsPerAddress,
                                     MHD_OPTION_CONNECTION_TIMEOUT, kTimeoutSeconds, MHD_OPTION_END);
  if (!server->daemon_) return fail_errno(errno, "http server: libmicrohttpd");
  const auto* info = MHD_get_daemon_info(server->daemon_, MHD_DAEMON_INFO_EPOLL_FD);
  if (!info) return fail("http server: libmicrohttpd was built without epoll");
  epoll_event library{.events = EPOLLIN, .data = {.u64 = kLibrary}};
  epoll_event wake_up{.events = EPOLLIN, .data = {.u64 = kWake}};
  if (epoll_ctl(server->epoll_.get(), EPOLL_CTL_ADD, info->epoll_fd, &library) != 0 ||
      epoll_ctl(server->epoll_.get(), EPOLL_CTL_ADD, server->wake_.get(), &wake_up) != 0)
    return fail_errno(errno, "http server: epoll");
  server->thread_ = std::thread([self = server.get()] { self->run(); });
  pthread_setname_np(server->thread_.native_handle(), "health");
  return server;
}

HttpServer::~HttpServer() {
  stopping_ = true;
  wake_.signal();
  if (thread_.joinable()) thread_.join();
  if (daemon_) MHD_stop_daemon(daemon_);
}

void HttpServer::watch(uint64_t id, bool on) const {
  auto found = listeners_.find(id);
  if (found == listeners_.end()) return;
  epoll_event event{.events = on ? static_cast<uint32_t>(EPOLLIN) : 0, .data = {.u64 = id}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second.fd.get(), &event);
}

Result<uint64_t> HttpServer::listen(const ListenAddress& where, Handler handler) {
  auto fd = open_listener(where);
  if (!fd) return pass(fd);
  const std::lock_guard lock(mutex_);
  const uint64_t id = next_id_++;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = id}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd->get(), &event) != 0)
    return fail_errno(errno, "listen on {}: epoll", where.to_string());
  listeners_[id] = {std::move(*fd), std::make_shared<const Handler>(std::move(handler))};
  return id;
}

uint16_t HttpServer::port(uint64_t id) const {
  const std::lock_guard lock(mutex_);
  auto found = listeners_.find(id);
  if (found == listeners_.end()) return 0;
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(found->second.fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                                            : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

void HttpServer::close(uint64_t id) {
  const std::lock_guard lock(mutex_);
  listeners_.erase(id);
}

void HttpServer::after(std::chrono::milliseconds delay, Work work) {
  {
    const std::lock_guard lock(mutex_);
    timers_.emplace(Clock::now() + delay, std::move(work));
  }
  wake_.signal();
}

void HttpServer::accept_on(uint64_t id) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    int fd = -1;
    {
      const std::lock_guard lock(mutex_);
      auto found = listeners_.find(id);
      if (found == listeners_.end()) return;
      fd = accept4(found->second.fd.get(), reinterpret_cast<sockaddr*>(&peer), &length,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    if (fd < 0) {
      // Out of descriptors or memory: the connection stays queued, and looking again at once would spin.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) pause(id);
      return;
    }
    accepting_ = id;
    MHD_add_connection(daemon_, fd, reinterpret_cast<const sockaddr*>(&peer),
                       length);  // closes it if refused
  }
}

void HttpServer::pause(uint64_t id) {
  const std::lock_guard lock(mutex_);
  watch(id, false);
  timers_.emplace(Clock::now() + kPause, [this, id] {
    const std::lock_guard again(mutex_);
    watch(id, true);
  });
}

int HttpServer::wait_ms() const {
  using std::chrono::milliseconds;
  int64_t wait = -1;
  MHD_UNSIGNED_LONG_LONG library = 0;
  if (MHD_get_timeout(daemon_, &library) == MHD_YES) wait = static_cast<int64_t>(library);
  const std::lock_guard lock(mutex_);
  if (!timers_.empty()) {
    const auto left = std::chrono::ceil<milliseconds>(timers_.begin()->first - Clock::now()).count();
    wait = std::min(wait < 0 ? INT64_MAX : wait, std::max<int64_t>(left, 0));
  }
  return static_cast<int>(std::min<int64_t>(wait, 60'000));
}

void HttpServer::run_due() {
  while (true) {
    Work work;
    {
      const std::lock_guard lock(mutex_);
      if (timers_.empty() || timers_.begin()->first > Clock::now()) return;
      work = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
    }
    work();
  }
}

void HttpServer::run() {
  std::array<epoll_event, 64> events{};
  while (!stopping_) {
    const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
    if (ready < 0 && errno != EINTR) {
      spdlog::critical("http server: epoll: {}; health and metrics are not served any more",
                       errno_name(errno));
      return;
    }
    for (int i = 0; i < ready; ++i) {
      const uint64_t id = events[static_cast<size_t>(i)].data.u64;
      if (id == kLibrary) continue;
      if (id == kWake) {
        wake_.drain();
      } else {
        accept_on(id);
      }
    }
    MHD_run(daemon_);
    run_due();
  }
}

}  // namespace bpfnet::health
