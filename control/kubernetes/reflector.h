#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "control/http/backoff.h"
#include "control/http/client.h"
#include "control/kubernetes/delivery.h"
#include "control/kubernetes/discovery.h"
#include "control/kubernetes/json_cutter.h"
#include "control/kubernetes/object_reader.h"
#include "control/kubernetes/resource.h"
#include "control/kubernetes/uid.h"

namespace bpfnet::kubernetes {

/// How the state of a kind goes on after `waiting: ` when it is the connection that fails.
inline constexpr std::string_view kNotReached = "not reached: ";
/// A watch that is over sooner than this without a word was no watch (K5).
inline constexpr std::chrono::seconds kShortestWatch{1};

/// Keeps the loop's view of one kind equal to the server's: list and watch, again and again (K1-K8). Lives on
/// the client's thread. What it has told it remembers by name and version, so that a list after a
/// disturbance becomes the differences (K4): objects that are as they were are not even decoded twice.
class Reflector {
 public:
  struct Times {
    std::chrono::seconds watch_min{300};  ///< timeoutSeconds is between these (K2)
    std::chrono::seconds watch_max{600};
    /// A WatchList tells nothing new for so long: lists instead. A watch has not begun: it is asked for
    /// again.
    std::chrono::milliseconds initial{60'000};
    std::chrono::milliseconds missing{30'000};  ///< until a kind that is not installed is looked for again
    std::chrono::seconds stall{70};  ///< a list tells nothing for so long; servers give up theirs at 60 s
    std::chrono::milliseconds first_wait{http::Backoff::kFirst};
    /// A server that hears nothing of us any more sends nothing new so long after what it sent last.
    std::chrono::milliseconds acknowledged{5'000};
  };
  struct Config {
    const Resource& resource;
    std::string server;  ///< `https://host:port`, without a slash at the end
    std::string node_name;
    Times times;
    uint64_t seed = 0;
  };

  Reflector(http::Client& client, DeliveryQueue& queue, Config config,
            std::function<void(const sources::Value&)> see = {});
  Reflector(const Reflector&) = delete;
  Reflector& operator=(const Reflector&) = delete;

  void start();
  /// What is under way is done again on a new connection: it is not what it was, or, with a `trouble`, nobody
  /// answers on it.
  void reconnect(const std::string& trouble = "");
  /// The server was reached by somebody: no reason to wait any longer for one that did not answer.
  void server_is_back();
  /// Called when an answer is a proper one after failures.
  std::function<void()> on_reached;
  /// metadata.uid of an object as it was told last; empty: not known.
  [[nodiscard]] std::string uid_of(const model::ObjectName& name) const;

  [[nodiscard]] const sources::KindStatus& status() const { return status_; }
  /// The server is known to have heard us then or later.
  [[nodiscard]] http::Client::Clock::time_point heard() const { return heard_; }
  /// Does it expect an answer, or more of one?
  [[nodiscard]] bool asking() const { return request_ != 0; }

 private:
  struct Known {
    uint64_t version = 0;  ///< hash of it
    Uid uid{};
  };
  using Names = std::unordered_map<model::ObjectName, Known>;

  void begin();
  // lists
  void begin_list();
  void send_page(const std::string& more);
  void take_item(std::string_view json);
  void end_page(const http::Outcome& outcome);
  void end_list(const std::string& version);
  // watches
  void begin_watch(bool initial);
  bool take_frame(std::string_view json);
  bool take_bookmark(const ReadObject& bookmark);
  void watch_works();
  void take_object(ReadObject object);
  void take_gone(const model::ObjectName& name, const std::string& version);
  void end_watch(const http::Outcome& outcome);
  void watch_initial();
  void check_progress();
  // what went wrong
  static bool is_expired(int code, std::string_view message);
  void fail_with(const http::Outcome& outcome);
  void refused(int status);
  void expired();
  void off();
  void choose_path(const std::string& why);
  void ask_whether_gone(const std::string& why);
  void ask_discovery(const std::string& path, std::function<void(const std::string&)> take);
  void take_served(Served served, const std::string& why);
  /// What is known may be old from here on.
  void lost(std::string state);
  void retry(const std::string& why, std::optional<std::chrono::seconds> asked = {});
  // both
  void prepare();
  void take_head(const http::Head& head);
  void hear();
  bool keep_error(std::string_view data);
  void reached();
  bool see(const model::ObjectName& name);
  void unsee(const model::ObjectName& name);
  void forget_unseen();
  void synced();
  void stop_request();
  void wait_for(std::chrono::milliseconds time);
  void tell_status();
  void put_object(ReadObject object);
  [[nodiscard]] http::Request request(const std::string& query) const;

  http::Client& client_;
  DeliveryQueue& queue_;
  Config config_;
  ObjectReader reader_;
  http::Backoff backoff_;
  std::mt19937_64 random_;
  sources::KindStatus status_;
  std::string_view path_;  ///< the resource's path or its older one

  http::Client::Id request_ = 0;
  http::Client::Id timer_ = 0;
  http::Client::Id progress_timer_ = 0;
  http::Client::Clock::time_point heard_;
  http::Client::Clock::time_point begun_;     ///< of the request
  http::Client::Clock::time_point told_;      ///< it told something then that more must follow
  http::Client::Clock::time_point progress_;  ///< of a WatchList: it told something of the state
  http::Head head_;
  std::string error_body_;
  std::optional<FrameCutter> frames_;
  std::optional<ListCutter> list_;
  std::string trouble_;          ///< why the receiver stopped the body
  bool expired_ = false;         ///< the stream said that its history is gone
  bool not_understood_ = false;  ///< the stream shows that it is no WatchList
  bool relist_due_ = false;      ///< what follows version_ is not to be had, until a list is complete
  bool initial_ = false;         ///< a WatchList that is not complete
  bool watch_list_ = true;       ///< the server knows WatchList
  bool field_selector_ = true;   ///< the server knows what it selects by
  bool plain_ = false;           ///< this state is read by a list though it may
  bool was_away_ = false;        ///< failed, and not reached since then
  bool unreached_ = false;       ///< waits for a server that does not answer
  uint64_t frames_taken_ = 0;
  int errors_in_a_row_ = 0;
  int watch_lists_failed_ = 0;
  std::optional<http::Client::Clock::time_point> gone_since_;  ///< the server says that the kind is

  std::string version_;             ///< everything up to here was told; empty: nothing was
  std::string list_version_ = "0";  ///< that a list is asked for
  /// Without a watch that worked in between. 1: it is listed from version_, 2: from the newest.
  int expired_in_a_row_ = 0;
  Names known_;
  std::unordered_set<model::ObjectName> seen_;  ///< while a list or a WatchList is read
};

}  // namespace bpfnet::kubernetes
