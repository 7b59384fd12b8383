#pragma once

#include <string>

#include "base/result.h"
#include "loader/netlink.h"

// The defragmenter: a nameless network namespace whose stack joins the fragments that reach it by a veth and
// sends the datagram back by the same veth, cut again, in order (bpf/stages/defragment.h).
namespace bpfnet::loader {

/// Our side of its veth, in the node's netns.
inline constexpr const char* kDefragDevice = "bpfnet2";

/// Whether it is ours, and not somebody else's device by that name.
bool is_defrag_device(const Link& link);

struct Defragmenter {
  int ifindex = 0;      ///< of kDefragDevice; 0: there is none
  std::string missing;  ///< why there is none
};

/// Makes the defragmenter, or takes over the one whose links are pinned below `<pin_dir>/defrag`. The pinned
/// links alone keep its namespace alive: with the last pin the namespace and the veth go. Never fails; what a
/// kernel (before 6.6) cannot do is told by `missing`. To be called in the node's netns.
Defragmenter ensure_defragmenter(const std::string& pin_dir);

/// Takes it away; fine when there is none.
Status remove_defragmenter(const std::string& pin_dir);

}  // namespace bpfnet::loader
