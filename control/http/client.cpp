#include "control/http/client.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <future>

#include "control/http/transfer.h"

namespace bpfnet::http {
namespace {

constexpr int kLongestWaitMs = 60'000;

bool curl_ready() {
  static const CURLcode kDone = curl_global_init(CURL_GLOBAL_DEFAULT);
  return kDone == CURLE_OK;
}

}  // namespace

struct Client::Multi {
  CURLM* handle = curl_multi_init();
  ~Multi() { curl_multi_cleanup(handle); }
};

Client::Client(ServerAccess access) : access_(std::move(access)), multi_(std::make_unique<Multi>()) {}

Result<std::unique_ptr<Client>> Client::start(const std::string& name, ServerAccess access) {
  if (!curl_ready()) return fail("libcurl does not start");
  std::unique_ptr<Client> client(new Client(std::move(access)));
  if (!client->multi_->handle) return fail("libcurl: out of memory");
  // A thread inherits the mask: it takes no signal, and a write to a closed connection is an error, no
  // SIGPIPE.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  client->thread_ = std::thread([self = client.get()] { self->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(client->thread_.native_handle(), name.substr(0, 15).c_str());
  return client;
}

Client::~Client() {
  stopping_ = true;
  curl_multi_wakeup(multi_->handle);
  if (thread_.joinable()) thread_.join();
  std::vector<Work> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(posted_);
  }
  transfers_.clear();
  cancelled_.clear();
}

void Client::post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    posted_.push_back(std::move(work));
  }
  curl_multi_wakeup(multi_->handle);
}

Client::Id Client::after(std::chrono::milliseconds delay, Work work) {
  const Id id = next_id_++;
  timers_[id] = {Clock::now() + delay, std::move(work)};
  return id;
}

Client::Id Client::send(Request request, Receiver receiver) {
  const Id id = next_id_++;
  // Whoever asks is told later, never within his own call.
  const auto told = receiver.done;
  auto transfer = Transfer::make(id, std::move(request), std::move(receiver), access_);
  const auto refuse = [&](std::string message) {
    timers_[id] = {Clock::now(), [told, message = std::move(message)] {
                     if (told) told({.failure = Failure::kSecret, .message = message});
                   }};
    return id;
  };
  if (!transfer) return refuse(transfer.error().message);
  if (const CURLMcode code = curl_multi_add_handle(multi_->handle, (*transfer)->easy()); code != CURLM_OK)
    return refuse(curl_multi_strerror(code));
  (*transfer)->joined(multi_->handle);
  transfers_[id] = std::move(*transfer);
  return id;
}

Client::Id Client::ask(Request request, size_t limit, std::function<void(Result<Reply>)> done) {
  auto reply = std::make_shared<Reply>();
  const std::string what = fmt::format("{} {}", request.method, request.url);
  return send(std::move(request), {.head = [reply](const Head& head) { reply->head = head; },
                                   .data =
                                       [reply, limit](std::string_view data) {
                                         if (reply->body.size() + data.size() > limit) return false;
                                         reply->body.append(data);
                                         return true;
                                       },
                                   .done =
                                       [reply, limit, what, done = std::move(done)](const Outcome& outcome) {
                                         if (outcome.failure == Failure::kNone) {
                                           done(std::move(*reply));
                                         } else if (outcome.failure == Failure::kStopped) {
                                           done(fail("{}: the answer is larger than {} bytes", what, limit));
                                         } else {
                                           done(fail("{}: {}", what, outcome.message));
                                         }
                                       }});
}

Result<Reply> Client::fetch(Request request, size_t limit) {
  const auto promise = std::make_shared<std::promise<Result<Reply>>>();
  auto answer = promise->get_future();
  post([this, promise, limit, request = std::move(request)]() mutable {
    ask(std::move(request), limit, [promise](Result<Reply> reply) { promise->set_value(std::move(reply)); });
  });
  try {
    return answer.get();
  } catch (const std::future_error&) {  // thrown away with the client
    return fail("the client has ended");
  }
}

void Client::cancel(Id id) {
  timers_.erase(id);
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) return;
  found->second->silence();
  cancelled_.push_back(std::move(found->second));
  transfers_.erase(found);
}

void Client::run_posted() {
  std::vector<Work> now;
  {
    const std::lock_guard lock(mutex_);
    now.swap(posted_);
  }
  for (Work& work : now) work();
}

void Client::run_timers() {
  const auto now = Clock::now();
  std::vector<std::pair<Clock::time_point, Id>> due;
  for (const auto& [id, timer] : timers_)
    if (timer.when <= now) due.emplace_back(timer.when, id);
  std::ranges::sort(due);
  for (const auto& [when, id] : due) {
    auto timer = timers_.extract(id);  // an earlier one may have cancelled it
    if (!timer.empty()) timer.mapped().work();
  }
}

int Client::wait_ms() const {
  auto wait = std::chrono::milliseconds(kLongestWaitMs);
  for (const auto& [id, timer] : timers_)
    wait = std::min(wait, std::chrono::ceil<std::chrono::milliseconds>(timer.when - Clock::now()));
  return static_cast<int>(std::max<int64_t>(wait.count(), 0));
}

void Client::finish(Id id, const Outcome& outcome) {
  auto transfer = transfers_.extract(id);
  if (transfer.empty()) return;
  const auto done = std::move(transfer.mapped()->receiver().done);
  transfer.mapped().reset();  // its connection is free for what `done` starts
  if (done) done(outcome);
}

void Client::finish_transfers() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_->handle, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Transfer* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    if (!transfers_.contains(transfer->id())) continue;  // cancelled
    const Id id = transfer->id();
    const Outcome outcome = transfer->outcome(message->data.result);
    finish(id, outcome);
  }
  cancelled_.clear();
}

void Client::run() {
  while (!stopping_) {
    run_posted();
    run_timers();
    cancelled_.clear();
    int running = 0;
    curl_multi_perform(multi_->handle, &running);
    finish_transfers();
    if (stopping_) return;
    curl_multi_poll(multi_->handle, nullptr, 0, wait_ms(), nullptr);
  }
}

std::string encode(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      result += c;
    } else {
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return result;
}

}  // namespace bpfnet::http
