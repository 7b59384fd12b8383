#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace bpfnet::agent {

/// Takes away what a kube-proxy that has ended left in the calling thread's netns: the nftables tables
/// `kube-proxy`, and the iptables chains KUBE-* with the rules that lead to them, legacy and nft, both
/// families. What kubelet and kube-router call KUBE-* stays. By the host's own tools; goes on after an error.
/// Ok only when nothing can be left: a tool that is missing is an error, unless the kernel has no table for
/// it.
Status remove_kube_proxy_rules();

/// The input of `iptables-restore --noflush` that takes kube-proxy's chains out of what `iptables-save`
/// printed; empty when there are none.
std::string kube_proxy_removal(std::string_view saved);

}  // namespace bpfnet::agent
