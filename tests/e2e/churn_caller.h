#pragma once

#include <atomic>
#include <deque>
#include <random>
#include <thread>

#include "tests/e2e/churn_history.h"

namespace bpfnet::e2e::churn {

/// What all callers have counted, and what was wrong.
struct Tally {
  std::atomic<uint64_t> answered = 0;
  std::atomic<uint64_t> refused = 0;
  std::atomic<uint64_t> silent = 0;
  std::atomic<uint64_t> bound = 0;      ///< answers that affinity allowed one server for
  std::atomic<uint64_t> echoes = 0;     ///< by TCP connections that were kept over changes
  std::atomic<uint64_t> datagrams = 0;  ///< by UDP flows that were kept over changes
  std::atomic<uint64_t> moved = 0;      ///< of these flows, to another server

  void fail(const std::string& text);
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] std::vector<std::string> failures() const;

 private:
  std::atomic<bool> failed_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> failures_;
};

/// One client that makes one connection after another to whatever the newest changes make interesting, and
/// judges each by what the specification says of the states its node may have been in. It keeps some of its
/// TCP connections and UDP flows over the changes. All connections of a client's address are its own, so it
/// knows what affinity has bound.
class Caller {
 public:
  Caller(const Client& client, const Ground& ground, const History& history, Tally& tally, uint64_t seed);
  ~Caller();
  Caller(const Caller&) = delete;
  void stop() { stop_ = true; }

 private:
  /// What came of an attempt; `code` is an errno, 0 when `seen` answered.
  struct Outcome {
    Clock::time_point begin;
    Clock::time_point end;
    int code = 0;
    Seen seen;
    std::string text;
  };
  struct Kept {
    Question question;
    TcpClient connection;
  };
  struct Flow {
    Question question;
    UdpClient socket;
    std::string server;
    size_t since = 0;   ///< the oldest version in which its last answer may have been given
    size_t chosen = 0;  ///< the version in which it came to its server
    Verdict owner;      ///< what was right then
  };
  /// What affinity remembers.
  struct Bound {
    std::string server;
    size_t since = 0;
  };

  void run();
  void attempt();
  void echo_kept();
  void use_flow();
  std::optional<Question> choose();
  std::optional<Address> choose_address(const ServiceManifest& service, Family family, Question& question);
  Outcome connect(const Question& question, milliseconds timeout, std::optional<TcpClient>& tcp,
                  std::optional<UdpClient>& udp);
  void keep(const Question& question, std::optional<TcpClient> tcp, std::optional<UdpClient> udp,
            const std::string& server, const Versions& versions);
  /// The flow is with this server from now on; false if it is not clear by which Service.
  bool settle(Flow& flow, const std::string& server, const Versions& versions);
  void count(const Outcome& outcome);

  /// The states that this outcome may have been made in.
  [[nodiscard]] Versions window(const Question& question, const Outcome& outcome) const;
  [[nodiscard]] milliseconds patience(const Question& question) const;
  /// Whether one state explains a new connection's outcome; affinity is judged, and learnt, besides.
  bool judge(const Question& question, const Outcome& outcome, const Versions& versions);
  bool judge_affinity(const Question& question, const Outcome& outcome, const Versions& versions);
  bool judge_flow(Flow& flow, const Outcome& outcome, const Versions& versions);
  [[nodiscard]] bool explains(const Version& version, const Question& question, const Outcome& outcome) const;
  void report(const std::string& problem, const Question& question, const Outcome& outcome,
              const Versions& versions);

  size_t below(size_t count) { return std::uniform_int_distribution<size_t>(0, count - 1)(random_); }
  bool chance(int percent) { return below(100) < static_cast<size_t>(percent); }

  const Client& client_;
  const Ground& ground_;
  const History& history_;
  Tally& tally_;
  std::mt19937_64 random_;
  uint16_t next_port_;
  std::deque<Kept> kept_;
  std::deque<Flow> flows_;
  std::map<std::string, Bound> bound_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace bpfnet::e2e::churn
