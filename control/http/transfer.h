#pragma once

#include <curl/curl.h>

#include <array>
#include <memory>
#include <string>

#include "control/http/client.h"

namespace bpfnet::http {

struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

/// One request on its way: a curl handle, what it needs to live, and who hears of the answer.
class Client::Transfer {
 public:
  /// Errors: a secret is not to be had, the URL is none.
  static Result<std::unique_ptr<Transfer>> make(Id id, Request request, Receiver receiver,
                                                const ServerAccess& access);
  ~Transfer();

  [[nodiscard]] Id id() const { return id_; }
  [[nodiscard]] CURL* easy() const { return easy_.get(); }
  [[nodiscard]] Receiver& receiver() { return receiver_; }
  [[nodiscard]] Outcome outcome(CURLcode code);
  /// No call of its receiver any more.
  void silence();
  /// Takes the handle out of `multi` at its end. Not within a call of curl.
  void joined(CURLM* multi) { multi_ = multi; }

 private:
  Transfer(Id id, Request request, Receiver receiver);
  Status set_up(const ServerAccess& access);
  Status set_secrets(const ServerAccess& access);
  Status set_authorization(const ServerAccess& access);
  Status set_url(const ServerAccess& access);
  void set_limits();
  void add_header(const std::string& line);
  void tell_head();
  static size_t on_data(const char* data, size_t size, size_t count, void* self);
  static int on_socket(void*, curl_socket_t socket, curlsocktype purpose);

  Id id_;
  Request request_;
  Receiver receiver_;
  std::unique_ptr<CURL, EasyDeleter> easy_;
  std::unique_ptr<curl_slist, ListDeleter> headers_;
  std::unique_ptr<curl_slist, ListDeleter> connect_to_;
  std::array<char, CURL_ERROR_SIZE> error_{};
  CURLM* multi_ = nullptr;
  bool told_head_ = false;
  bool silent_ = false;
  bool stopped_ = false;  ///< by the receiver
};

}  // namespace bpfnet::http
