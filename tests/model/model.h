#pragma once

#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/address.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/reasons.h"

/// The datapath's decisions in plain C++: written from the design and the specs, not from the programs. It
/// knows nothing of maps, bytes or devices: tuples come in, verdicts and tuples come out.
namespace bpfnet::model_node {

/// As in flow_key: an echo request has its identifier in sport, a reply in dport.
struct Tuple {
  Address src;
  uint16_t sport = 0;
  Address dst;
  uint16_t dport = 0;
  uint8_t proto = 0;

  [[nodiscard]] Tuple reversed() const { return {dst, dport, src, sport, proto}; }
  [[nodiscard]] std::string text() const;
  auto operator<=>(const Tuple&) const = default;
};

struct Pod {
  std::vector<Address> addresses;
  uint32_t identity = 0;
  uint32_t ingress_set = 0;  ///< 0: not isolated
  uint32_t egress_set = 0;
  uint32_t epoch = 1;
  bool open = true;
  bool rejects = false;  ///< tells whom its policy denies
  bool audited = false;  ///< its policy drops nothing
};

struct Backend {
  Address address;
  uint16_t port = 0;
  uint32_t id = 0;
  auto operator<=>(const Backend&) const = default;
};

struct Service {
  std::optional<Address> address;  ///< nullopt: a node port, on every local address of `family`
  Family family = Family::kIpv4;
  uint16_t port = 0;
  uint8_t proto = 0;
  std::vector<Backend> inside;
  std::vector<Backend> outside;
  bool drop_empty_inside = false;  ///< S31
  bool drop_empty_outside = false;
  uint32_t id = 0;
  bool affinity = false;                       ///< S42
  std::optional<std::vector<Cidr>> sources{};  ///< S39; nullopt: everybody
  uint16_t count = 1;                          ///< ports from `port` on; the n-th leads to the backend's n-th
};

struct Rule {
  uint32_t identity = 0;  ///< 0: any
  uint8_t proto = 0;      ///< 0: any
  uint16_t port = 0;
  uint8_t bits = 0;  ///< leading bits of the port that count
  uint8_t verdict = POLICY_ALLOW;
  uint32_t id = 0;
};

/// The wanted state of one node.
struct State {
  std::map<uint32_t, Pod> pods;
  std::map<Address, uint32_t> remote_pods;  ///< with their identities
  std::set<Address> own_addresses;          ///< of this node, all open for node ports
  std::set<Address> other_nodes;
  bool overlay = false;
  std::map<Address, uint16_t> node_of;  ///< other nodes and their pods: index of the node
  std::vector<std::pair<Cidr, uint16_t>> node_prefixes;
  std::vector<Cidr> cluster;   ///< not masqueraded towards
  std::vector<Cidr> services;  ///< S32
  std::vector<Service> frontends;
  std::map<Address, bool> live;       ///< addresses that only services have; true: a cluster IP (S32)
  std::set<uint32_t> stale_backends;  ///< ids whose UDP flows must move (S45)
  std::map<uint32_t, std::vector<Rule>> sets;
  std::map<Family, Address> node_address;  ///< masquerade source
  uint16_t first_port = 0;
  uint16_t last_port = 0;
};

/// A packet at a hook. By the overlay: from the node that its source belongs to.
struct Arrival {
  enum hook hook = HOOK_from_pod;
  uint32_t pod = 0;  ///< at from_pod: whose device
  Tuple tuple;
  uint8_t tcp_flags = 0;

  [[nodiscard]] std::string text() const;
};

/// The program's random choices, as far as they can be seen; the model checks that they were allowed.
struct Choices {
  std::optional<std::pair<Address, uint16_t>> backend;
  std::optional<Tuple> out;
};

struct Decision {
  int verdict = VERDICT_DROP;
  int reason = DROP_NONE;
  Tuple out;              ///< of a packet that goes on
  std::string complaint;  ///< a random choice that was not allowed
  bool audited = false;   ///< goes on although policy denies: `reason` is what it would be dropped for
  bool reversed = false;  ///< `reason` is of the connection as its receiver began it
  bool told = false;      ///< dropped, and its sender hears of it
  uint32_t rule = 0;      ///< of a packet that policy drops or audits
};

struct Pair {
  Tuple original;
  Tuple reply;
  int state = FLOW_NEW;
  uint32_t client = 0;  ///< pod index of C, 0: none
  uint32_t server = 0;  ///< pod index of B
  uint32_t client_epoch = 0;
  uint32_t server_epoch = 0;
  uint32_t backend = 0;  ///< id, 0: no service
  bool service = false;
  bool audited = false;
  bool picked_up = false;  ///< which end began it is not known
  uint32_t rule = 0;
  uint16_t client_node = 0;  ///< the node that C is behind by the overlay, 0: it is not
  uint16_t server_node = 0;  ///< and B
  int forward = VERDICT_TO_ENDPOINT;
  int backward = VERDICT_TO_ENDPOINT;
  bool fin_original = false;
  bool fin_reply = false;
};

class Model {
 public:
  State state;

  Decision step(const Arrival& arrival, const Choices& choices);
  /// Both keys of every pair lead to it.
  [[nodiscard]] const std::map<Tuple, std::shared_ptr<Pair>>& flows() const { return flows_; }
  void forget_flows() { flows_.clear(); }

 private:
  struct Party {
    uint32_t identity = 0;
    uint32_t pod = 0;
    bool remote_pod = false;
    bool own = false;
    bool other_node = false;
    bool cluster = false;
    bool service_range = false;
    uint16_t node = 0;
  };
  struct Target {
    Backend backend;
    bool service = false;
  };
  /// What policy says of a connection.
  struct Judgement {
    int reason = DROP_NONE;  ///< of the first direction that denies or, if none does, that is audited
    bool audited = false;
    bool reversed = false;
    bool told = false;
    uint32_t rule = 0;  ///< which denied, or else which allowed last

    [[nodiscard]] bool denies() const { return reason != DROP_NONE && !audited; }
    [[nodiscard]] Decision decide(Decision passing, const Arrival& arrival) const;
  };
  struct Says {
    uint8_t verdict = POLICY_DENY;
    uint32_t rule = 0;
  };

  [[nodiscard]] Party party(const Address& address) const;
  [[nodiscard]] const Service* frontend(const Tuple& tuple) const;
  [[nodiscard]] std::optional<Decision> no_frontend(const Arrival& arrival) const;
  [[nodiscard]] bool concerns_live_address(const Tuple& tuple) const;
  [[nodiscard]] Says set_says(uint32_t set, uint32_t identity, uint8_t proto, uint16_t port) const;
  void obey(Judgement& judgement, const Pod& pod, int reason, uint32_t peer, const Tuple& reply) const;
  [[nodiscard]] Judgement judge(const Tuple& original, const Tuple& reply, bool by_service) const;
  [[nodiscard]] Judgement judge_both_ways(const Tuple& original, const Tuple& plain, bool by_service,
                                          bool picked_up) const;
  [[nodiscard]] Judgement judge_again(Pair& pair, bool is_reply, bool is_syn);
  [[nodiscard]] bool enters_here(Pair& pair, bool is_reply, const Arrival& arrival) const;
  [[nodiscard]] bool needs_overlay(const Party& source, const Party& destination) const;
  void lead(Pair& pair, bool is_reply) const;
  std::optional<Decision> known_flow(const Arrival& arrival);
  Decision new_flow(const Arrival& arrival, const Choices& choices);
  std::optional<Decision> check_source(const Arrival& arrival);
  bool clashes(const Arrival& arrival);
  std::optional<Decision> choose(const Arrival& arrival, const Choices& choices, Target& target,
                                 std::string& complaint);
  std::optional<Decision> translate(const Arrival& arrival, const Choices& choices, const Target& target,
                                    Tuple& reply, std::string& complaint) const;
  static void advance(Pair& pair, bool is_reply, const Arrival& arrival);
  void remove(const Pair& pair);

  std::map<Tuple, std::shared_ptr<Pair>> flows_;
  std::map<std::pair<Address, uint32_t>, uint32_t> affinities_;  ///< client and service to backend id
};

}  // namespace bpfnet::model_node
