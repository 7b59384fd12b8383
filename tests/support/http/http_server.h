#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "tests/support/http/certificates.h"
#include "tests/support/http/http_message.h"

namespace bpfnet::test {

/// One connection to the server, in the hands of a handler. Its calls are for the handler's thread.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  /// Bytes as they are. False: the peer is gone.
  virtual bool raw(std::string_view bytes) = 0;
  /// Waits until `fd` is readable (true), or the peer or the server goes, or the time is over (false). -1:
  /// none.
  virtual bool wait(int fd, std::chrono::milliseconds time) = 0;
  /// Neither the peer nor the server is gone.
  [[nodiscard]] virtual bool open() = 0;
  /// The next answer is the connection's last.
  virtual void end() = 0;

  /// A whole answer with its length.
  void answer(int status, std::string_view body,
              const std::string& headers = "Content-Type: application/json\r\n");
  /// The head of a chunked one; `headers` with their line ends.
  bool start_chunked(int status, const std::string& headers = "Content-Type: application/json\r\n");
  bool chunk(std::string_view data);
  bool end_chunked();
};

/// An HTTP/1.1 server of a test, a thread for each connection. Handlers may wait; they end soon after the
/// server is stopped if they use HttpConnection::wait().
class HttpServer {
 public:
  struct Tls {
    KeyPair own;
    std::string
        clients;  ///< authority (PEM) that clients' certificates are checked by; empty: none asked for
    bool must_show = false;  ///< a client without a certificate is refused
  };
  struct Options {
    std::string address = "127.0.0.1";
    uint16_t port = 0;  ///< 0: any
    std::optional<Tls> tls;
  };
  using Handler = std::function<void(const HttpRequest&, HttpConnection&)>;

  /// Listens in the caller's network namespace. Throws if it cannot.
  HttpServer(Options options, Handler handler);
  ~HttpServer() { stop(); }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  /// `http://127.0.0.1:1234`
  [[nodiscard]] std::string url() const;
  /// Refuses connections and ends those that are open, in the middle of whatever they do.
  void stop();
  /// Serves again on the same port after stop().
  void restart();
  /// Ends the open connections alone.
  void drop_connections();
  [[nodiscard]] size_t connections() const;
  /// Connections taken since the start.
  [[nodiscard]] size_t accepted() const { return accepted_; }
  /// Later connections show this certificate.
  void set_certificate(const KeyPair& own);

 private:
  class Connection;
  struct TlsContext;
  struct Session;

  void listen();
  void accept_all();
  void serve(Connection& connection);

  Options options_;
  Handler handler_;
  uint16_t port_ = 0;
  std::mutex tls_mutex_;
  std::shared_ptr<TlsContext> tls_;
  Fd listener_;
  Fd stop_;  ///< an eventfd, readable from stop() on
  std::atomic<size_t> accepted_ = 0;
  mutable std::mutex mutex_;
  std::set<Connection*> open_;
  std::vector<std::thread> threads_;
  std::thread accepting_;
};

}  // namespace bpfnet::test
