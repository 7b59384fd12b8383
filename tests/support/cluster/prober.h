#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "tests/support/cluster/netns.h"
#include "tests/support/cluster/sctp.h"
#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// One try to reach `to`: a TCP connection, a datagram or an SCTP INIT.
struct PartyProbe {
  size_t from = 0;    ///< a party of the Prober
  uint8_t proto = 0;  ///< IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
  HostPort to;
  size_t lane = 0;  ///< 0 or 1: which of the party's two sources datagrams and associations leave from
};

/// What became of a probe. Neither answered nor refused: silence.
struct ProbeOutcome {
  bool answered = false;
  std::optional<size_t> by;  ///< the party that answered; TCP, judged by its handshake alone, does not say
  int refused = 0;           ///< the errno of a connection that failed at once
};

/// Packets dropped since some time, by kind.
using DropCounts = std::function<std::vector<uint64_t>()>;

struct ProbeRound {
  std::vector<ProbeOutcome> outcomes;  ///< in the order of the probes
  std::vector<uint64_t> dropped;       ///< during the round, by kind
};

/// Sends many probes at once, all by one thread and without waiting for what does not come: a round is over
/// when every probe is answered, refused, or accounted for by a counted drop. So silence is told from
/// slowness exactly, and a probe that gets lost without being counted makes the round fail.
///
/// TCP and SCTP probes are new connections each time. The datagrams of a party leave one socket all its life:
/// they are flows that live through whatever changes between two rounds.
class Prober {
 public:
  Prober();
  ~Prober();
  Prober(const Prober&) = delete;

  /// A namespace that probes are sent from, and that answers at `ports`: all protocols, both families. Must
  /// outlive the Prober.
  size_t add(const Netns& netns, const std::vector<uint16_t>& ports);

  /// `drops` are counts of dropped packets, of several kinds. Throws std::runtime_error when probes and drops
  /// do not add up, or when somebody answers who was not asked.
  ProbeRound run(std::span<const PartyProbe> probes, const DropCounts& drops);

 private:
  struct Party;
  struct Attempt;
  using Handler = std::function<void()>;

  std::vector<uint64_t> settle(const DropCounts& drops, const std::vector<uint64_t>& before);
  void begin(std::span<const PartyProbe> probes);
  void connect(size_t index, Fd fd);
  void connected(size_t index);
  void answer(size_t index, const HostPort& from, std::optional<size_t> by);
  void read_datagrams(int fd);
  void read_sctp(size_t party, const SctpSocket& socket);
  void watch(int fd, Handler handler);

  Fd epoll_;
  std::vector<Handler> handlers_;  ///< by the number that epoll gives back
  std::vector<std::unique_ptr<Party>> parties_;
  std::unique_ptr<Attempt> attempt_;
  uint16_t round_ = 0;
};

}  // namespace bpfnet::e2e
