#include "control/http/transfer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace bpfnet::http {
namespace {

// A peer that vanished is noticed after 15 s of silence and three questions, or, with data on the way to it,
// after the user timeout: 30 s either way.
constexpr int kKeepaliveIdle = 15;
constexpr int kKeepaliveInterval = 5;
constexpr int kKeepaliveCount = 3;
constexpr unsigned kUserTimeoutMs = 30'000;

curl_blob blob(const std::string& text) {
  return {const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : static_cast<char>(c);
  });
  return text;
}

Failure failure_of(CURLcode code, CURL* easy) {
  switch (code) {
    case CURLE_OK:
      return Failure::kNone;
    case CURLE_COULDNT_CONNECT: {
      long error = 0;
      curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
      return error == ECONNREFUSED ? Failure::kRefused : Failure::kUnreached;
    }
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
    case CURLE_URL_MALFORMAT:
      return Failure::kUnreached;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
      return Failure::kTls;
    case CURLE_OPERATION_TIMEDOUT: {
      curl_off_t connected = 0;
      curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
      return connected == 0 ? Failure::kUnreached : Failure::kTimeout;
    }
    case CURLE_WRITE_ERROR:
      return Failure::kStopped;
    default:
      return Failure::kBroken;
  }
}

struct UrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

std::string part(CURLU* url, CURLUPart what, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, what, &text, flags) != CURLUE_OK) return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

}  // namespace

Client::Transfer::Transfer(Id id, Request request, Receiver receiver)
    : id_(id), request_(std::move(request)), receiver_(std::move(receiver)), easy_(curl_easy_init()) {}

Client::Transfer::~Transfer() {
  if (multi_) curl_multi_remove_handle(multi_, easy_.get());
}

Result<std::unique_ptr<Client::Transfer>> Client::Transfer::make(Id id, Request request, Receiver receiver,
                                                                 const ServerAccess& access) {
  std::unique_ptr<Transfer> transfer(new Transfer(id, std::move(request), std::move(receiver)));
  if (!transfer->easy_) return fail("libcurl: out of memory");
  BPFNET_TRY(transfer->set_up(access));
  return transfer;
}

Status Client::Transfer::set_up(const ServerAccess& access) {
  CURL* easy = easy_.get();
  curl_easy_setopt(easy, CURLOPT_PRIVATE, this);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_.data());
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // an end does not wait for a name that is being looked up
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Transfer::on_data);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Transfer::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, &Transfer::on_socket);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "bpfnet");
  BPFNET_TRY(set_url(access));
  BPFNET_TRY(set_secrets(access));
  BPFNET_TRY(set_authorization(access));
  set_limits();
  if (!access.proxy.empty()) {
    curl_easy_setopt(easy, CURLOPT_PROXY, access.proxy.c_str());
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
  }
  if (request_.method != "GET") curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  if (!request_.body.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request_.body.c_str());
    add_header("Expect:");  // no question whether the body is wanted
  }
  for (const auto& [name, value] : request_.headers) add_header(fmt::format("{}: {}", name, value));
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
  return ok();
}

// curl takes the name to verify from the URL: a server by another name is the URL's host, and where it really
// is stands beside.
Status Client::Transfer::set_url(const ServerAccess& access) {
  const std::unique_ptr<CURLU, UrlDeleter> url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, request_.url.c_str(), 0) != CURLUE_OK)
    return fail("{}: no URL", request_.url);
  if (access.server_name.empty() || part(url.get(), CURLUPART_SCHEME) != "https") {
    curl_easy_setopt(easy_.get(), CURLOPT_URL, request_.url.c_str());
    return ok();
  }
  const std::string host = part(url.get(), CURLUPART_HOST);
  const std::string port = part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  if (curl_url_set(url.get(), CURLUPART_HOST, access.server_name.c_str(), 0) != CURLUE_OK)
    return fail("{}: no name of a server", access.server_name);
  connect_to_.reset(curl_slist_append(nullptr, fmt::format("::{}:{}", host, port).c_str()));
  curl_easy_setopt(easy_.get(), CURLOPT_CONNECT_TO, connect_to_.get());
  curl_easy_setopt(easy_.get(), CURLOPT_URL, part(url.get(), CURLUPART_URL).c_str());
  add_header(fmt::format("Host: {}:{}", host, port));
  return ok();
}

// Kept connections are told apart by the text of the certificates: a new one is never hidden by an old
// connection.
Status Client::Transfer::set_secrets(const ServerAccess& access) {
  CURL* easy = easy_.get();
  if (access.insecure) {
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  } else if (access.ca.given()) {
    auto ca = access.ca.read();
    if (!ca) return pass(ca, "certificate authority");
    curl_blob copy = blob(*ca);
    curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &copy);
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
  }
  if (access.certificate.given() != access.key.given())
    return fail("a client certificate and its key go together: one of them is missing");
  if (!access.certificate.given()) return ok();
  auto certificate = access.certificate.read();
  if (!certificate) return pass(certificate, "client certificate");
  auto key = access.key.read();
  if (!key) return pass(key, "client key");
  curl_blob certificate_copy = blob(*certificate);
  curl_blob key_copy = blob(*key);
  curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &certificate_copy);
  curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key_copy);
  return ok();
}

Status Client::Transfer::set_authorization(const ServerAccess& access) {
  if (!access.authorize) return ok();
  auto authorization = access.authorize();
  if (!authorization) return pass(authorization);
  if (const auto* bearer = std::get_if<BearerToken>(&*authorization)) {
    // As a header it would reach a proxy's log with the request line of plain HTTP only; curl's own option
    // keeps it from other hosts too.
    curl_easy_setopt(easy_.get(), CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(easy_.get(), CURLOPT_XOAUTH2_BEARER, bearer->token.c_str());
  } else if (const auto* basic = std::get_if<BasicLogin>(&*authorization)) {
    curl_easy_setopt(easy_.get(), CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    curl_easy_setopt(easy_.get(), CURLOPT_USERNAME, basic->user.c_str());
    curl_easy_setopt(easy_.get(), CURLOPT_PASSWORD, basic->password.c_str());
  }
  return ok();
}

void Client::Transfer::set_limits() {
  CURL* easy = easy_.get();
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request_.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request_.deadline.count()));
  if (request_.stall.count() > 0) {
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request_.stall.count()));
  }
}

void Client::Transfer::add_header(const std::string& line) {
  curl_slist* list = curl_slist_append(headers_.get(), line.c_str());
  if (!list) return;
  (void)headers_.release();
  headers_.reset(list);
}

int Client::Transfer::on_socket(void*, curl_socket_t socket, curlsocktype) {
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepaliveIdle, sizeof(int));
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepaliveInterval, sizeof(int));
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &kKeepaliveCount, sizeof(int));
  setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMs, sizeof(unsigned));
  return CURL_SOCKOPT_OK;
}

void Client::Transfer::tell_head() {
  if (told_head_) return;
  told_head_ = true;
  Head head;
  long status = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  head.status = static_cast<int>(status);
  curl_off_t retry_after = 0;
  if (curl_easy_getinfo(easy_.get(), CURLINFO_RETRY_AFTER, &retry_after) == CURLE_OK && retry_after > 0)
    head.retry_after = std::chrono::seconds(retry_after);
  const char* type = nullptr;
  if (curl_easy_getinfo(easy_.get(), CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type) {
    const std::string_view whole(type);
    std::string_view bare = whole.substr(0, whole.find(';'));
    while (bare.ends_with(' ')) bare.remove_suffix(1);
    head.content_type = lower(std::string(bare));
  }
  if (!silent_ && receiver_.head) receiver_.head(head);
}

// The empty line after the headers: a body may be long in coming.
size_t Client::Transfer::on_header(const char* line, size_t size, size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::string_view text(line, size * count);
  long status = 0;
  curl_easy_getinfo(transfer.easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  if ((text == "\r\n" || text == "\n") && status >= 200) transfer.tell_head();
  return text.size();
}

size_t Client::Transfer::on_data(const char* data, size_t size, size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  if (transfer.silent_) return 0;
  transfer.tell_head();
  const std::string_view piece(data, size * count);
  if (!transfer.silent_ && transfer.receiver_.data && !transfer.receiver_.data(piece))
    transfer.stopped_ = true;
  return transfer.silent_ || transfer.stopped_ ? 0 : piece.size();
}

Outcome Client::Transfer::outcome(CURLcode code) {
  if (code == CURLE_OK) tell_head();  // an answer without a body
  Outcome outcome{.failure = failure_of(code, easy_.get()), .message = {}};
  long status = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  outcome.status = static_cast<int>(status);
  if (code != CURLE_OK) outcome.message = error_.front() != '\0' ? error_.data() : curl_easy_strerror(code);
  if (code == CURLE_WRITE_ERROR && !stopped_) outcome.failure = Failure::kBroken;
  return outcome;
}

void Client::Transfer::silence() {
  silent_ = true;
}

}  // namespace bpfnet::http
