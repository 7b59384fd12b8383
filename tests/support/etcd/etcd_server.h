#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/etcd/config.h"
#include "control/http/client.h"
#include "tests/support/cluster/process.h"
#include "tests/support/http/certificates.h"

namespace bpfnet::test {

/// A member that is a cluster of its own, with a data directory and ports of its own. Ended by pid with its
/// object.
class EtcdServer {
 public:
  struct Options {
    std::string address = "127.0.0.1";
    int netns = -1;                        ///< where it runs and is asked from; -1: the caller's
    uint16_t port = 0;                     ///< 0: any that is free (in the caller's namespace)
    const Authority* authority = nullptr;  ///< of its certificate, and of those that its clients must show
    std::vector<std::string> more_args;
  };

  /// Starts it and waits until it answers. Throws with its log if it does not.
  explicit EtcdServer(Options options);
  ~EtcdServer();
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;

  void start();
  /// The same where nobody else knows it: at another port, until it is killed and started again.
  void start_in_private();
  void kill() { child_.kill(); }
  void signal(int number) const { child_.signal(number); }
  /// Forgets everything; the cluster is a new one at its next start.
  void wipe();

  [[nodiscard]] std::string url() const;
  /// How bpfnet reaches it; with the certificate of a client where it wants one.
  [[nodiscard]] etcd::Config config() const;
  /// A file below its directory, which goes with it.
  std::string write_file(const std::string& name, const std::string& text) const;

  /// POST to the gateway. Throws where the answer is no success.
  std::string ask(const std::string& path, const std::string& body);
  int64_t put(const std::string& key, const std::string& value);
  int64_t remove(const std::string& key);
  /// Forgets everything before the present revision.
  void compact();
  [[nodiscard]] std::string log() const { return e2e::read_text(dir_ + "/log"); }

 private:
  void start_at(uint16_t port);

  Options options_;
  std::string dir_;
  uint16_t port_ = 0;  ///< where it is now
  uint16_t peer_port_ = 0;
  e2e::Child child_;
  std::unique_ptr<http::Client> client_;
};

}  // namespace bpfnet::test
