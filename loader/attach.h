#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "loader/datapath.h"

// Programs at devices, each held by a pin `<link_dir>/<ifname>_<hook>`: a link (TCX, XDP), or, for a clsact
// filter, which lives in the kernel by itself, its program as a note that the filter is ours.
namespace bpfnet::loader {

enum class AttachPoint { kIngress, kEgress, kXdpGeneric, kXdpNative };

/// Everything that is attached for one pin directory. Device indices are those of the calling thread's netns.
class AttachmentTable {
 public:
  /// Gives the descriptor of a loaded program by hook name, -1: none.
  using ProgramOf = std::function<int(const std::string& hook)>;

  AttachmentTable() = default;
  AttachmentTable(std::string link_dir, ProgramOf program_of)
      : link_dir_(std::move(link_dir)), program_of_(std::move(program_of)) {}

  /// Reads the pins, puts the programs of this build in place of those that run, removes pins of devices that
  /// are gone or of hooks that are no more. Gives a sentence for each removal.
  Result<std::vector<std::string>> adopt();

  /// Attaches the hook's program, or updates what is attached there already. true: it is new.
  /// `mechanism` (kTcx or kClsact) is for a new one at TC; what is there keeps the one it has.
  Result<bool> attach(int ifindex, const std::string& hook, AttachPoint point,
                      TcMechanism mechanism = TcMechanism::kTcx);
  /// Fine when there is none.
  Status detach(int ifindex, const std::string& hook);
  Status detach_all(int ifindex);
  /// Removes pins of devices that are gone; gives their names.
  Result<std::vector<std::string>> remove_stale();

  /// Reads the pins of `link_dir`.
  static Result<std::vector<Attachment>> list(const std::string& link_dir);
  /// Detaches and unpins everything in `link_dir`.
  static Status remove_all(const std::string& link_dir);

 private:
  using Key = std::pair<int, std::string>;  // ifindex, hook

  std::string link_dir_;
  ProgramOf program_of_;
  std::map<Key, std::string> pins_;  // -> pin name
};

}  // namespace bpfnet::loader
