/* The next hop of a routed flow: found by the kernel's tables, cached in the flow, asked for again by the
 * first packet of each tick, which also keeps the kernel's neighbour entry alive. */
#ifndef BPFNET_STAGES_NEXT_HOP_H
#define BPFNET_STAGES_NEXT_HOP_H

#include "bpf/connection.h"
#include "bpf/lib/addr.h"
#include "bpf/lib/identity.h"
#include "bpf/lib/mac.h"
#include "bpf/stages/tunnel.h"
#include "bpf/verdict.h"

enum {
	FAMILY_INET = 2,
	FAMILY_INET6 = 10,
	MTU_UNKNOWN_BELOW = 576, /* smaller answers are not an MTU */
};

static __always_inline void fib_fill(struct bpf_fib_lookup *fib, const struct addr *src, const struct addr *dst)
{
	/* Nothing routes from 127.0.0.1 or ::1; such a source is masqueraded anyway. */
	bool no_source = addr_is_loopback(src);

	__builtin_memset(fib, 0, sizeof(*fib));
	/* The device that packets of pods and of the host come from, as far as the stack's rules can tell. */
	fib->ifindex = config.router_ifindex;
	/* Any length makes the kernel answer with the route's MTU and not with the device's. */
	fib->tot_len = 1;
	if (addr_is_v4(dst)) {
		fib->family = FAMILY_INET;
		fib->ipv4_src = no_source ? 0 : src->w[3];
		fib->ipv4_dst = dst->w[3];
	} else {
		fib->family = FAMILY_INET6;
		if (!no_source)
			__builtin_memcpy(fib->ipv6_src, src, sizeof(*src));
		__builtin_memcpy(fib->ipv6_dst, dst, sizeof(*dst));
	}
}

/* After this fib->ifindex is the way out, mtu_result 0 when unknown, dmac zero when unresolved. */
static __always_inline enum verdict fib_find(struct __sk_buff *ctx, struct packet *pkt, struct bpf_fib_lookup *fib)
{
	long found = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);

	if (found == BPF_FIB_LKUP_RET_FWD_DISABLED || found < 0)
		return drop(pkt, DROP_NOT_CONFIGURED);
	if (found == BPF_FIB_LKUP_RET_NO_NEIGH) {
		__builtin_memset(fib->dmac, 0, sizeof(fib->dmac));
		__builtin_memset(fib->smac, 0, sizeof(fib->smac));
	} else if (found != BPF_FIB_LKUP_RET_SUCCESS) {
		return drop(pkt, DROP_NO_ROUTE);
	}
	if (fib->mtu_result < MTU_UNKNOWN_BELOW)
		fib->mtu_result = 0;
	/* A route back to us covers addresses that no pod or service has. */
	if (fib->ifindex == config.host_ifindex || fib->ifindex == config.router_ifindex)
		return drop(pkt, DROP_NO_ROUTE);
	return VERDICT_NEXT;
}

enum { LOOPBACK_IFINDEX = 1 };

/* Hooks that run before the device has the packet; the others run after the stack let go of it. */
static __always_inline bool hook_is_ingress(struct __sk_buff *ctx, const struct packet *pkt)
{
	if (pkt->hook == HOOK_from_host)
		return ctx->ifindex != LOOPBACK_IFINDEX;
	return pkt->hook == HOOK_from_pod || packet_is_from_wire(pkt);
}

/* A flow of a time before the overlay, whose packets are to go by it now, is led there. */
__weak __noinline int join_overlay(struct packet *pkt)
{
	struct flow *flow, *back;
	struct party src, dst;

	if (!pkt)
		return VERDICT_DROP;
	flow = flow_find(&pkt->key);
	if (!flow)
		return VERDICT_NEXT;
	party_find(&src, &flow->peer.daddr, pkt->key.net);
	party_find(&dst, &flow->peer.saddr, pkt->key.net);
	back = bpf_map_lookup_elem(&flows, &flow->peer);
	if (!needs_overlay(src.flags, dst.flags, dst.node) || !back)
		return VERDICT_NEXT;
	if (!dst.node)
		return drop(pkt, DROP_NO_ROUTE); /* its node is not known yet */
	flow_lead(flow, dst.node);
	back->in_node = dst.node;
	return VERDICT_NEXT;
}

/* Looks the next hop up once more and refreshes the flow; the answer is left in the per-CPU record, for
 * next_hop_redirect(). The packet is still as it came: it is measured by what is found. */
__weak __noinline int next_hop_resolve(struct __sk_buff *ctx, struct packet *pkt)
{
	struct connection *scratch = connection_get();
	struct bpf_fib_lookup *fib;
	enum verdict verdict;
	struct flow *flow;

	if (!pkt || !scratch)
		return VERDICT_DROP;
	fib = &scratch->fib;
	flow = flow_find(&pkt->key);
	if (!flow)
		return drop(pkt, DROP_NO_FLOW);
	flow->action = FLOW_TO_NEXT_HOP; /* also what went by an overlay that is no more */
	flow->out_node = 0;
	fib_fill(fib, &flow->peer.daddr, &flow->peer.saddr);
	verdict = fib_find(ctx, pkt, fib);
	if (verdict != VERDICT_NEXT) {
		__builtin_memset(&flow->dmac, 0, sizeof(flow->dmac)); /* the next packet asks again */
		return verdict;
	}
	flow->out_ifindex = fib->ifindex;
	__builtin_memcpy(&flow->smac, fib->smac, sizeof(flow->smac));
	__builtin_memcpy(&flow->dmac, fib->dmac, sizeof(flow->dmac));
	flow->mtu = fib->mtu_result;
	return VERDICT_NEXT;
}

/* Hands a packet, rewritten and marked, to the neighbour layer. */
__weak __noinline int next_hop_redirect(struct __sk_buff *ctx, struct packet *pkt)
{
	struct connection *scratch = connection_get();
	struct bpf_redir_neigh neigh = {};
	struct bpf_fib_lookup *fib;

	if (!pkt || !scratch)
		return VERDICT_DROP;
	fib = &scratch->fib;
	pkt->out_ifindex = fib->ifindex;
	/* On success the kernel has put the gateway into the destination, where there is one. */
	neigh.nh_family = fib->family;
	__builtin_memcpy(neigh.ipv6_nh, fib->ipv6_dst, sizeof(neigh.ipv6_nh));
	/* What the stack sent has a route of its own already, and a packet that waits for its neighbour is sent by that
	 * in the end (__neigh_update): the kernel must route it anew. */
	if (hook_is_ingress(ctx, pkt))
		pkt->code = bpf_redirect_neigh(fib->ifindex, &neigh, sizeof(neigh), 0);
	else
		pkt->code = bpf_redirect_neigh(fib->ifindex, NULL, 0, 0);
	return VERDICT_TO_NEXT_HOP;
}

#endif
