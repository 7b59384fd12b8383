#include "tests/support/http/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <stdexcept>

#include "base/result.h"

namespace bpfnet::test {
namespace {

struct TextBio {
  explicit TextBio(const std::string& text)
      : it(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))) {}
  ~TextBio() { BIO_free(it); }
  TextBio(const TextBio&) = delete;
  TextBio& operator=(const TextBio&) = delete;
  BIO* it;
};

[[noreturn]] void give_up(const std::string& what) {
  throw std::runtime_error("http server: " + what);
}

}  // namespace

struct HttpServer::TlsContext {
  explicit TlsContext(const Tls& tls) : it(SSL_CTX_new(TLS_server_method())) {
    const TextBio certificate(tls.own.certificate);
    const TextBio key(tls.own.key);
    X509* own = PEM_read_bio_X509(certificate.it, nullptr, nullptr, nullptr);
    EVP_PKEY* own_key = PEM_read_bio_PrivateKey(key.it, nullptr, nullptr, nullptr);
    if (SSL_CTX_use_certificate(it, own) != 1 || SSL_CTX_use_PrivateKey(it, own_key) != 1)
      give_up("certificate");
    X509_free(own);
    EVP_PKEY_free(own_key);
    if (tls.clients.empty()) return;
    const TextBio clients(tls.clients);
    X509* authority = PEM_read_bio_X509(clients.it, nullptr, nullptr, nullptr);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(it), authority);
    X509_free(authority);
    SSL_CTX_set_verify(it, SSL_VERIFY_PEER | (tls.must_show ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    const unsigned char session[] = "test";
    SSL_CTX_set_session_id_context(it, session, sizeof(session));
  }
  ~TlsContext() { SSL_CTX_free(it); }
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  SSL_CTX* it;
};

class HttpServer::Connection final : public HttpConnection {
 public:
  Connection(Fd fd, std::shared_ptr<TlsContext> tls, int stop)
      : fd_(std::move(fd)), tls_(std::move(tls)), stop_(stop) {}
  ~Connection() override {
    if (ssl_) SSL_free(ssl_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool shake_hands() {
    if (!tls_) return true;
    ssl_ = SSL_new(tls_->it);
    SSL_set_fd(ssl_, fd_.get());
    const bool done = SSL_accept(ssl_) == 1;
    ERR_clear_error();
    return done;
  }

  [[nodiscard]] std::string client() const {
    if (!ssl_) return {};
    X509* shown = SSL_get1_peer_certificate(ssl_);
    if (!shown) return {};
    std::array<char, 256> name{};
    X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name.data(), name.size());
    X509_free(shown);
    return name.data();
  }

  bool raw(std::string_view bytes) override {
    while (!bytes.empty() && !gone_) {
      const ssize_t sent = ssl_ ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                                : ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        ERR_clear_error();
        gone_ = true;
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return !gone_;
  }

  bool wait(int fd, std::chrono::milliseconds time) override {
    std::array<pollfd, 3> ready{{{fd_.get(), POLLRDHUP, 0}, {stop_, POLLIN, 0}, {fd, POLLIN, 0}}};
    const int count = ::poll(ready.data(), ready.size(), static_cast<int>(time.count()));
    if (ready[0].revents != 0 || ready[1].revents != 0) gone_ = true;
    return count > 0 && !gone_ && ready[2].revents != 0;
  }

  bool open() override {
    wait(-1, std::chrono::milliseconds(0));
    return !gone_;
  }

  void end() override { last_ = true; }
  [[nodiscard]] bool last() const { return last_ || gone_; }
  void shut() const { shutdown(fd_.get(), SHUT_RDWR); }

  std::optional<HttpRequest> next() {
    size_t end = 0;
    while ((end = input_.find("\r\n\r\n")) == std::string::npos)
      if (!fill()) return {};
    auto request = parse_request(std::string_view(input_).substr(0, end));
    input_.erase(0, end + 4);
    if (!request) return {};
    size_t length = 0;
    const std::string announced = request->header("content-length");
    std::from_chars(announced.data(), announced.data() + announced.size(), length);
    while (input_.size() < length)
      if (!fill()) return {};
    request->body = input_.substr(0, length);
    input_.erase(0, length);
    request->client = client();
    return request;
  }

 private:
  bool fill() {
    std::array<char, 8192> buffer{};
    const ssize_t got = ssl_ ? SSL_read(ssl_, buffer.data(), buffer.size())
                             : recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) {
      ERR_clear_error();
      gone_ = true;
      return false;
    }
    input_.append(buffer.data(), static_cast<size_t>(got));
    return true;
  }

  Fd fd_;
  std::shared_ptr<TlsContext> tls_;
  int stop_;
  SSL* ssl_ = nullptr;
  std::string input_;
  bool gone_ = false;
  bool last_ = false;
};

HttpServer::HttpServer(Options options, Handler handler)
    : options_(std::move(options)), handler_(std::move(handler)), port_(options_.port) {
  if (options_.tls) tls_ = std::make_shared<TlsContext>(*options_.tls);
  listen();
}

std::string HttpServer::url() const {
  const bool six = options_.address.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", options_.tls ? "https" : "http", six ? "[" : "", options_.address,
                     six ? "]" : "", port_);
}

void HttpServer::listen() {
  const bool six = options_.address.find(':') != std::string::npos;
  sockaddr_in6 address6{};
  sockaddr_in address4{};
  address6.sin6_family = AF_INET6;
  address6.sin6_port = htons(port_);
  address4.sin_family = AF_INET;
  address4.sin_port = htons(port_);
  void* where = six ? static_cast<void*>(&address6.sin6_addr) : static_cast<void*>(&address4.sin_addr);
  if (inet_pton(six ? AF_INET6 : AF_INET, options_.address.c_str(), where) != 1) give_up("address");
  auto* address = six ? reinterpret_cast<sockaddr*>(&address6) : reinterpret_cast<sockaddr*>(&address4);
  socklen_t length = six ? sizeof(address6) : sizeof(address4);

  Fd listener(socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener.get(), address, length) != 0) give_up("bind: " + errno_name(errno));
  if (::listen(listener.get(), 128) != 0) give_up("listen: " + errno_name(errno));
  getsockname(listener.get(), address, &length);
  port_ = ntohs(six ? address6.sin6_port : address4.sin_port);
  listener_ = std::move(listener);
  stop_ = Fd(eventfd(0, EFD_CLOEXEC));

  sigset_t pipe;
  sigset_t before;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);  // OpenSSL writes without MSG_NOSIGNAL
  accepting_ = std::thread([this] { accept_all(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void HttpServer::accept_all() {
  std::array<pollfd, 2> ready{{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (true) {
    ::poll(ready.data(), ready.size(), -1);
    if (ready[1].revents != 0) return;
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) continue;
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ++accepted_;
    std::shared_ptr<TlsContext> tls;
    {
      const std::lock_guard lock(tls_mutex_);
      tls = tls_;
    }
    auto connection = std::make_shared<Connection>(std::move(fd), std::move(tls), stop_.get());
    const std::lock_guard lock(mutex_);
    open_.insert(connection.get());
    threads_.emplace_back([this, connection] {
      serve(*connection);
      const std::lock_guard done(mutex_);
      open_.erase(connection.get());
    });
  }
}

void HttpServer::serve(Connection& connection) {
  if (!connection.shake_hands()) return;
  while (!connection.last()) {
    const auto request = connection.next();
    if (!request) return;
    handler_(*request, connection);
  }
}

void HttpServer::drop_connections() {
  const std::lock_guard lock(mutex_);
  for (const Connection* connection : open_) connection->shut();
}

size_t HttpServer::connections() const {
  const std::lock_guard lock(mutex_);
  return open_.size();
}

void HttpServer::stop() {
  if (!accepting_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_.get(), &one, sizeof(one));
  accepting_.join();
  listener_.reset();
  drop_connections();
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  stop_.reset();
}

void HttpServer::restart() {
  stop();
  listen();
}

void HttpServer::set_certificate(const KeyPair& own) {
  Tls tls = options_.tls.value();
  tls.own = own;
  const std::lock_guard lock(tls_mutex_);
  tls_ = std::make_shared<TlsContext>(tls);
}

}  // namespace bpfnet::test
