#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "control/etcd/config.h"
#include "control/http/client.h"

namespace bpfnet::etcd {

/// One cluster's v3 gateway: which of its endpoints is asked, who we are there. Lives on the client's thread;
/// the client must outlive it, and it the calls under way.
///
/// An endpoint that cannot answer is left for the next one; a token that etcd does not take (any more) is
/// fetched anew, once.
class Gateway {
 public:
  /// The body of a success. Errors: ESTALE: the revision was compacted; EACCES: etcd does not let us; EAGAIN:
  /// no endpoint could answer; 0: the request is wrong.
  using Done = std::function<void(Result<std::string>)>;

  Gateway(http::Client& client, Config config) : client_(client), config_(std::move(config)) {}
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  enum class Where {
    kAnywhere,  ///< all endpoints in turn until one answers: for what may be done twice
    kHere,      ///< the endpoint in use alone; without an answer, a change may have been made
  };
  /// `path`: `kv/range`.
  void call(const std::string& path, std::string body, Where where, Done done);
  /// The same from another thread; waits.
  Result<std::string> fetch(const std::string& path, std::string body, Where where);

  /// A stream of frames from the endpoint in use, whatever becomes of it. Gets a token first if one is
  /// needed; `started` then has the request, or the error.
  void prepare(const std::string& path, std::string body, std::function<void(Result<http::Request>)> started);

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const std::string& endpoint() const { return config_.endpoints[current_]; }
  void next_endpoint() { current_ = (current_ + 1) % config_.endpoints.size(); }
  /// Etcd has said that the token is no good.
  void forget_token() { token_.clear(); }

 private:
  struct Call {
    std::string path;
    std::string body;
    Where where = Where::kAnywhere;
    Done done;
    bool renewed = false;  ///< the token, for this call
    size_t tries = 0;
  };
  void send(Call call);
  void answered(Call call, Result<http::Reply> reply);
  void unreached(Call call, const std::string& why);
  void authenticate(std::function<void(Status)> done);
  [[nodiscard]] http::Request request(const std::string& path, std::string body) const;

  http::Client& client_;
  Config config_;
  size_t current_ = 0;
  std::string token_;
  bool old_path_ = false;  ///< etcd 3.3 has the gateway at /v3beta
};

}  // namespace bpfnet::etcd
