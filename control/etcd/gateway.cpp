#include "control/etcd/gateway.h"

#include <cerrno>
#include <future>
#include <memory>

#include "control/etcd/wire.h"

namespace bpfnet::etcd {
namespace {

constexpr std::chrono::milliseconds kConnectTimeout{5'000};
constexpr size_t kLargestAnswer = size_t{256} << 20;
constexpr int kNotFound = 404;
constexpr int kOk = 200;

tl::unexpected<Error> fail_with(int code, std::string message) {
  return tl::unexpected<Error>(Error{std::move(message), code});
}

}  // namespace

http::Request Gateway::request(const std::string& path, std::string body) const {
  http::Request request{.method = "POST",
                        .url = fmt::format("{}/{}/{}", endpoint(), old_path_ ? "v3beta" : "v3", path),
                        .headers = {{"Content-Type", "application/json"}},
                        .body = std::move(body),
                        .connect_timeout = kConnectTimeout,
                        .deadline = config_.deadline};
  // etcd takes the token as it is, without a scheme.
  if (!token_.empty()) request.headers.emplace_back("Authorization", token_);
  return request;
}

void Gateway::authenticate(std::function<void(Status)> done) {
  http::Secret secret;
  secret.file = config_.password_file;
  const auto password = secret.read();
  if (!password) return done(pass(password, "password of etcd"));
  token_.clear();
  auto body = authenticate_body(config_.user, *password);
  client_.ask(request("auth/authenticate", std::move(body)), kLargestAnswer,
              [this, done = std::move(done)](Result<http::Reply> reply) {
                if (!reply) return done(fail_with(EAGAIN, reply.error().message));
                if (reply->head.status == kNotFound && !old_path_) {
                  old_path_ = true;
                  return authenticate(done);
                }
                if (reply->head.status != kOk) {
                  const auto error = parse_error(reply->body);
                  const bool later = reply->head.status >= 500 || (error && is_unavailable(*error));
                  return done(fail_with(
                      later ? EAGAIN : EACCES,
                      fmt::format("{}: user {}: {}", endpoint(), config_.user,
                                  error ? error->message : "HTTP " + std::to_string(reply->head.status))));
                }
                auto token = parse_authenticate(reply->body);
                if (!token) return done(pass(token, endpoint()));
                token_ = std::move(*token);
                done(ok());
              });
}

void Gateway::prepare(const std::string& path, std::string body,
                      std::function<void(Result<http::Request>)> started) {
  if (config_.user.empty() || !token_.empty()) return started(request(path, std::move(body)));
  authenticate(
      [this, path, body = std::move(body), started = std::move(started)](const Status& status) mutable {
        if (!status) return started(pass(status));
        started(request(path, std::move(body)));
      });
}

void Gateway::call(const std::string& path, std::string body, Where where, Done done) {
  send({.path = path, .body = std::move(body), .where = where, .done = std::move(done)});
}

void Gateway::send(Call call) {
  ++call.tries;
  const auto shared = std::make_shared<Call>(std::move(call));
  prepare(shared->path, shared->body, [this, shared](Result<http::Request> request) {
    if (!request) {
      // Nothing of the call itself has been sent.
      if (request.error().code == EAGAIN) return unreached(std::move(*shared), request.error().message);
      return shared->done(pass(request));
    }
    client_.ask(std::move(*request), kLargestAnswer, [this, shared](Result<http::Reply> reply) {
      answered(std::move(*shared), std::move(reply));
    });
  });
}

void Gateway::unreached(Call call, const std::string& why) {
  if (call.where == Where::kHere) return call.done(fail_with(EAGAIN, why));
  next_endpoint();
  if (call.tries < config_.endpoints.size()) return send(std::move(call));
  call.done(fail_with(EAGAIN, why));
}

void Gateway::answered(Call call, Result<http::Reply> reply) {
  if (!reply) return unreached(std::move(call), reply.error().message);
  const int status = reply->head.status;
  if (status == kOk) return call.done(std::move(reply->body));
  const auto error = parse_error(reply->body);
  if (status == kNotFound && !error && !old_path_) {
    old_path_ = true;
    return send(std::move(call));
  }
  const std::string message =
      fmt::format("{}: {}", endpoint(), error ? error->message : fmt::format("HTTP {}", status));
  if (!error ? status >= 500 : is_unavailable(*error)) return unreached(std::move(call), message);
  if (error && wants_token(*error)) {
    forget_token();
    if (!config_.user.empty() && !call.renewed) {
      call.renewed = true;
      --call.tries;
      return send(std::move(call));
    }
    return call.done(fail_with(
        EACCES, message + (config_.user.empty() ? ": give --etcd-user and --etcd-password-file" : "")));
  }
  if (error && is_compacted(*error)) return call.done(fail_with(ESTALE, message));
  constexpr int kForbidden = 403;
  call.done(fail_with(status == kForbidden ? EACCES : 0, message));
}

Result<std::string> Gateway::fetch(const std::string& path, std::string body, Where where) {
  const auto promise = std::make_shared<std::promise<Result<std::string>>>();
  auto answer = promise->get_future();
  client_.post([this, path, body = std::move(body), where, promise]() mutable {
    call(path, std::move(body), where,
         [promise](Result<std::string> result) { promise->set_value(std::move(result)); });
  });
  return answer.get();
}

}  // namespace bpfnet::etcd
