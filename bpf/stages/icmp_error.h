/* icmp_error: an ICMP error follows the connection it is about. Its key is the tuple of the packet inside,
 * reversed: the entry found is of the direction the error travels in. The packet inside becomes what its
 * sender once sent, the entry's other tuple, and the error goes to that sender. */
#ifndef BPFNET_STAGES_ICMP_ERROR_H
#define BPFNET_STAGES_ICMP_ERROR_H

#include "bpf/connection.h"
#include "bpf/lib/icmp.h"
#include "bpf/lib/identity.h"
#include "bpf/stages/flow.h"
#include "bpf/verdict.h"

/* Where the packet inside begins, and what changing it does to the checksum of the message around it. */
struct inner {
	__u32 offset;
	__u32 l4_offset;
	__u64 change;
};

/* Addresses of the packet inside. IPv4's header checksum makes up for them. */
static __always_inline long inner_l3(struct __sk_buff *ctx, const struct packet *pkt, const struct flow_key *to,
				     struct inner *inner)
{
	if (pkt->family == 4) {
		struct iphdr ip;
		__u64 change;

		if (bpf_skb_load_bytes(ctx, inner->offset, &ip, sizeof(ip)))
			return -1;
		change = csum_replace32(0, ip.saddr, to->saddr.w[3]);
		change = csum_replace32(change, ip.daddr, to->daddr.w[3]);
		ip.saddr = to->saddr.w[3];
		ip.daddr = to->daddr.w[3];
		ip.check = csum_apply(ip.check, change);
		return bpf_skb_store_bytes(ctx, inner->offset, &ip, sizeof(ip), 0);
	}
	inner->change = csum_replace_addr(inner->change, &pkt->key.daddr, &to->saddr);
	inner->change = csum_replace_addr(inner->change, &pkt->key.saddr, &to->daddr);
	if (bpf_skb_store_bytes(ctx, inner->offset + 8, &to->saddr, sizeof(to->saddr), 0))
		return -1;
	return bpf_skb_store_bytes(ctx, inner->offset + 24, &to->daddr, sizeof(to->daddr), 0);
}

/* Ports, or the identifier of an echo; the first 8 bytes are all that an error must carry of a transport
 * header, so its own checksum is not made right: no receiver can check that of a packet cut short. */
static __always_inline long inner_l4(struct __sk_buff *ctx, const struct packet *pkt, const struct flow_key *to,
				     struct inner *inner)
{
	__be16 ports[2];

	if (pkt->key.proto == IPPROTO_ICMP || pkt->key.proto == IPPROTO_ICMPV6) {
		__be16 id = to->sport | to->dport;

		inner->change = csum_replace16(inner->change, pkt->key.sport | pkt->key.dport, id);
		return bpf_skb_store_bytes(ctx, inner->l4_offset + 4, &id, sizeof(id), 0);
	}
	ports[0] = to->sport;
	ports[1] = to->dport;
	inner->change = csum_replace16(inner->change, pkt->key.dport, to->sport);
	inner->change = csum_replace16(inner->change, pkt->key.sport, to->dport);
	return bpf_skb_store_bytes(ctx, inner->l4_offset, ports, sizeof(ports), 0);
}

/* The packet inside was sent as `to`; the error's checksum follows. */
__weak __noinline int error_inner(struct __sk_buff *ctx, struct packet *pkt, struct flow_key *to)
{
	struct inner inner = {};
	__u32 message;

	if (!pkt || !to)
		return VERDICT_DROP;
	message = pkt->l4_offset & PACKET_OFFSET_MASK;
	inner.offset = message + sizeof(struct icmp_header);
	inner.l4_offset = pkt->inner_l4_offset & PACKET_OFFSET_MASK;
	if (inner_l3(ctx, pkt, to, &inner) || inner_l4(ctx, pkt, to, &inner))
		return drop(pkt, DROP_REWRITE_FAILED);
	if (icmp_checksum(ctx, message, inner.change))
		return drop(pkt, DROP_REWRITE_FAILED);
	return VERDICT_NEXT;
}

/* May it go another hop? The sender of an error is never told that it died. */
static __always_inline bool error_lives(struct __sk_buff *ctx, const struct packet *pkt, const struct flow *flow)
{
	__u8 hops;

	if (!is_routed(pkt, flow))
		return true;
	if (bpf_skb_load_bytes(ctx, ETH_HLEN + (pkt->family == 4 ? 8 : 7), &hops, 1))
		return false;
	return hops > 1;
}

/* The stack takes a router's word by the uplink it has its route by (rp_filter), not by our device; what came by a
 * tunnel has none, and is told on lo. */
static __always_inline void error_to_host(const struct packet *pkt, struct flow *outer)
{
	if (pkt->hook == HOOK_from_uplink) {
		outer->out_ifindex = 0;
	} else if (pkt->hook == HOOK_from_overlay) {
		outer->out_ifindex = LOOPBACK_IFINDEX;
		__builtin_memset(&outer->smac, 0, sizeof(outer->smac));
		__builtin_memset(&outer->dmac, 0, sizeof(outer->dmac));
	}
}

/* The error's own addresses: to the sender of the packet inside; from the peer as that sender knows it, if
 * the peer speaks, or else from the router that does. The record is shaped as a flow so that the rewrite of
 * all other packets serves. */
static __always_inline enum verdict error_outer(struct __sk_buff *ctx, struct packet *pkt, struct flow *outer)
{
	struct addr from;

	if (pkt->family == 4) {
		__be32 ip;

		if (bpf_skb_load_bytes(ctx, ETH_HLEN + 12, &ip, sizeof(ip)))
			return drop(pkt, DROP_TRUNCATED);
		addr_from_v4(&from, ip);
	} else if (bpf_skb_load_bytes(ctx, ETH_HLEN + 8, &from, sizeof(from))) {
		return drop(pkt, DROP_TRUNCATED);
	}
	if (!addr_equal(&from, &pkt->key.saddr)) {
		/* A pod is no router: it speaks for itself alone. */
		if (outer->in_ifindex)
			return drop(pkt, DROP_SPOOFED);
		outer->peer.daddr = from;
		if (outer->action == FLOW_TO_HOST && outer->out_ifindex == config.host_ifindex)
			error_to_host(pkt, outer);
	}
	/* ICMPv6 sums the addresses too; rewrite() is kept from the transport part. */
	if (pkt->family == 6) {
		__u64 change = csum_replace_addr(0, &from, &outer->peer.daddr);

		change = csum_replace_addr(change, &pkt->key.daddr, &outer->peer.saddr);
		if (icmp_checksum(ctx, pkt->l4_offset & PACKET_OFFSET_MASK, change))
			return drop(pkt, DROP_REWRITE_FAILED);
		/* Made up for here; rewrite() takes them for changed without. */
		bpf_csum_update(ctx, (__u32)~csum_fold32(change));
	}
	pkt->flags |= PACKET_LATER_FRAGMENT;
	outer->flags |= FLOW_TRANSLATED;
	return VERDICT_NEXT;
}

/* Nothing is known of the packet inside. A pod's error, or one for a pod, is about nothing we let through;
 * else it may be about the host's own traffic. */
static __always_inline enum verdict error_unrelated(struct packet *pkt)
{
	struct address_info *info;

	if (pkt->hook == HOOK_to_uplink)
		return pass(pkt);
	info = address_find(&pkt->key.daddr, pkt->key.net);
	if (pkt->hook == HOOK_from_uplink && !(info && info->flags & ADDRESS_LOCAL_POD))
		return pass(pkt);
	return drop(pkt, DROP_ICMP_UNRELATED);
}

/* The first half: finds the flow and changes the packet inside. What the second half needs is left in the
 * per-CPU record. */
__weak __noinline int translate_inner(struct __sk_buff *ctx, struct packet *pkt)
{
	struct connection *scratch = connection_get();
	struct flow *flow;

	if (!pkt || !scratch)
		return VERDICT_DROP;
	flow = flow_find(&pkt->key);
	if (!flow)
		return error_unrelated(pkt);
	if (!flow_enters_here(flow, pkt, ctx->ifindex))
		return drop(pkt, DROP_SPOOFED);
	if (!error_lives(ctx, pkt, flow))
		return drop(pkt, DROP_TTL_EXCEEDED);
	scratch->flow = *flow;
	if (!(flow->flags & FLOW_TRANSLATED))
		return VERDICT_NEXT;
	return error_inner(ctx, pkt, &scratch->flow.peer);
}

/* Which way it goes. No data of the flow may ever come here and ask, so that the error asks itself. */
__weak __noinline int error_way(struct __sk_buff *ctx, struct packet *pkt)
{
	struct connection *scratch = connection_get();
	enum verdict verdict;
	struct flow *flow;

	if (!pkt || !scratch)
		return VERDICT_DROP;
	if (scratch->flow.action == FLOW_TO_HOST)
		flow_fit_door(pkt, &scratch->flow);
	if (keeps_link(ctx, pkt, &scratch->flow))
		pkt->flags |= PACKET_KEEP_LINK;
	pkt->flags |= PACKET_NO_NEIGHBOUR;
	flow = flow_find(&pkt->key);
	if (!flow)
		return drop(pkt, DROP_NO_FLOW);
	RUN(find_way(ctx, pkt, flow));
	if (flow->action == FLOW_TO_NEXT_HOP || flow->action == FLOW_TO_NODE) {
		scratch->flow.action = flow->action;
		scratch->flow.out_node = flow->out_node;
		scratch->flow.out_ifindex = flow->out_ifindex;
		scratch->flow.smac = flow->smac;
		scratch->flow.dmac = flow->dmac;
	}
out:
	return verdict;
}

/* The second half: the error's own headers, and off it goes. */
__weak __noinline int translate_outer(struct __sk_buff *ctx, struct packet *pkt)
{
	struct connection *scratch = connection_get();
	enum verdict verdict;

	if (!pkt || !scratch)
		return VERDICT_DROP;
	RUN(error_outer(ctx, pkt, &scratch->flow));
	if (bpf_skb_pull_data(ctx, (pkt->l4_offset & PACKET_OFFSET_MASK) + sizeof(struct icmp_header)))
		return drop(pkt, DROP_REWRITE_FAILED);
	RUN(rewrite(ctx, pkt, &scratch->flow, is_routed(pkt, &scratch->flow)));
	verdict = deliver(ctx, pkt, &scratch->flow);
out:
	return verdict;
}

/* The stage. */
static __always_inline enum verdict icmp_error(struct __sk_buff *ctx, struct packet *pkt)
{
	enum verdict verdict;

	if (pkt->kind != PACKET_ERROR)
		return VERDICT_NEXT;
	RUN(translate_inner(ctx, pkt));
	RUN(error_way(ctx, pkt));
	return translate_outer(ctx, pkt);
out:
	return verdict;
}

#endif
