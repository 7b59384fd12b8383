/* sock_bind: a process of the node asks for a port that a NodePort or hostPort has taken. The service would
 * win over it (S36): it had better hear so at once. */
#ifndef BPFNET_STAGES_SOCK_BIND_H
#define BPFNET_STAGES_SOCK_BIND_H

#include <linux/errno.h>

#include <bpf/bpf_core_read.h>

#include "bpf/lib/identity.h"
#include "bpf/lib/proto.h"
#include "bpf/stages/frontend.h"
#include "bpf/stages/sock_call.h"

/* The one bit that is nowhere else to be read: does `::` mean IPv4 as well? The names are the kernel's. */
struct sock_common___bind {
	unsigned char skc_ipv6only : 1;
} __attribute__((preserve_access_index));
struct sock___bind {
	struct sock_common___bind __sk_common;
} __attribute__((preserve_access_index));

static __always_inline bool sock_is_ipv6_only(struct bpf_sock_addr *ctx)
{
	struct sock___bind *sock = ctx->type == SOCK_STREAM ? (void *)bpf_skc_to_tcp6_sock(ctx->sk)
							     : (void *)bpf_skc_to_udp6_sock(ctx->sk);

	return sock && BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_ipv6only);
}

static __always_inline bool frontend_holds_port(const struct flow_key *at, __u16 flags)
{
	struct frontend frontend;

	return frontend_find(at, flags, &frontend) && frontend.flags & (FRONTEND_NODE_PORT | FRONTEND_HOST_PORT);
}

/* Is the port taken at this address, or, where that is unspecified, at every address of its family? */
static __always_inline bool sock_port_is_taken(const struct sock_call *call)
{
	__u16 flags = ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT;

	if (!addr_is_unspecified(&call->to.daddr))
		flags = address_flags_find(&call->to.daddr, call->to.net);
	return frontend_holds_port(&call->to, flags);
}

/* 0.0.0.0 and :: cover the node's own address, where a hostPort may be published alone. */
static __always_inline bool sock_port_is_taken_at_node(const struct sock_call *call)
{
	__u32 ifindex = config.host_ifindex;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	struct flow_key at = call->to;

	if (!interface)
		return false;
	at.daddr = addr_is_v4(&call->to.daddr) ? interface->ip4 : interface->ip6;
	return frontend_holds_port(&at, ADDRESS_LOCAL_NODE);
}

static __always_inline bool sock_port_is_taken_anywhere(const struct sock_call *call)
{
	return sock_port_is_taken(call) ||
	       (addr_is_unspecified(&call->to.daddr) && sock_port_is_taken_at_node(call));
}

static __always_inline int sock_bind(struct bpf_sock_addr *ctx, struct sock_call *call)
{
	bool taken;

	if (!call->host || !call->to.dport || !proto_has_ports(call->to.proto))
		return SOCK_PROCEED;
	taken = sock_port_is_taken_anywhere(call);
	if (!taken && addr_is_zero(&call->to.daddr) && !sock_is_ipv6_only(ctx)) {
		addr_from_v4(&call->to.daddr, 0);
		taken = sock_port_is_taken_anywhere(call);
	}
	if (!taken)
		return SOCK_PROCEED;
	sock_count(SOCKET_BIND_REFUSED);
	bpf_set_retval(-EADDRINUSE);
	return SOCK_REFUSE;
}

#endif
