#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/address.h"
#include "control/apply/map_writer.h"
#include "control/apply/policy_sets.h"
#include "control/apply/report.h"
#include "control/compile/images.h"

namespace bpfnet::apply {

/// What CNI made: the device side of an endpoint record.
struct EndpointFacts {
  std::string name;      ///< `ns/pod`, or the container; for messages
  uint32_t ifindex = 0;  ///< host side
  Mac mac;               ///< pod side
  Mac host_mac;
  std::optional<Address> ip4;
  std::optional<Address> ip6;
  uint16_t net = 0;
  uint32_t mtu = 0;
};

/// The endpoint array, and the order in which endpoints and policy sets change so that no packet is judged by
/// half a policy. The calls below are made in their order here, once for each publish.
class EndpointRecords {
 public:
  EndpointRecords(Table<uint32_t, endpoint>& table, PolicySets& sets) : mirror_(table), sets_(sets) {}

  Status adopt();

  /// 0. Before the first write that may change a verdict without its epoch: sets a mark in the map, which
  /// settle() takes away. Who finds it, at a start or after a failed write, has every restricting endpoint
  /// judge its flows again: the difference that would tell which ones is gone.
  void unsettle(Problems& problems);
  /// Whether the image or the map has an open endpoint whose flows are judged.
  [[nodiscard]] bool restricts(const compile::PolicyImage& image) const;

  /// 1. Endpoints that are new, or new owners of a number, get a record that lets nothing pass (P20).
  void close_new(const std::map<uint16_t, EndpointFacts>& facts, Problems& problems);
  /// 2. Open endpoints move to their new sets. `left` are identities that some address has and is about to
  /// change: until step 4 the old set's word on them counts.
  void move_to_sets(const std::map<uint16_t, EndpointFacts>& facts, const compile::PolicyImage& image,
                    const std::set<uint32_t>& left, Problems& problems);
  /// 3. Identities of local pods, right after those of addresses. Whose is in `refused` keeps what it has.
  void move_identities(const compile::PolicyImage& image, const std::set<uint32_t>& refused,
                       Problems& problems);
  struct Settlement {
    const std::set<uint32_t>& refused;  ///< identities that some set has no room for
    /// Identities that addresses have given up or taken: whoever's set names one judges its flows again.
    const std::set<uint32_t>& touched;
    const std::map<uint32_t, std::string>& refusals;  ///< why a set is not in the map
    bool node_left;  ///< an address is this node's no more: it was let in everywhere (P13)
  };
  /// 4. The final record: new endpoints open, transition sets are left, all epochs are raised.
  void settle(const std::map<uint16_t, EndpointFacts>& facts, const compile::PolicyImage& image,
              const Settlement& settlement, Problems& problems);
  /// 5. Records of endpoints that are gone; their epochs are kept, so that no old flow fits a later owner.
  void free_gone(const std::map<uint16_t, EndpointFacts>& facts, Problems& problems);

  /// Sets that records name.
  [[nodiscard]] std::set<uint32_t> sets_in_use() const;
  [[nodiscard]] const endpoint* find(uint16_t index) const { return mirror_.find(index); }
  /// Writes of the mark, which are no endpoint's.
  [[nodiscard]] uint64_t mark_writes() const { return mark_writes_; }

 private:
  /// An array's element is written in place, and a program may read it half old, half new. So an epoch is
  /// written after the sets it stands for: a flow that was judged by a mix, or by the sets before, has an
  /// epoch that is over with this call, and is judged again. The programs read the epoch first.
  void put(uint16_t index, const endpoint& record, const std::string& name, Problems& problems);
  void write_mark(uint8_t flags, Problems& problems);
  /// The set wanted, or what must stand in for it while it does not fit the map.
  [[nodiscard]] uint32_t usable(uint32_t wanted, uint32_t held, bool open) const;
  /// `stand_in`: the set that the endpoint has instead.
  void tell_refusal(const EndpointFacts& facts, uint32_t set, const std::vector<std::string>& policies,
                    uint32_t stand_in, const Settlement& settlement, Problems& problems) const;

  Mirror<uint32_t, endpoint> mirror_;
  PolicySets& sets_;
  bool marked_ = false;      ///< the map has the mark
  bool found_mark_ = false;  ///< of an earlier publish, which did not come to its end
  bool failed_ = false;      ///< a record could not be written since the mark was
  uint64_t mark_writes_ = 0;
};

}  // namespace bpfnet::apply
