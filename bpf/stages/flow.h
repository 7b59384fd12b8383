/* flow: the fast path. A packet of a settled flow costs one lookup and nothing else. */
#ifndef BPFNET_STAGES_FLOW_H
#define BPFNET_STAGES_FLOW_H

#include "bpf/stages/forward.h"

/* Index 0 is no endpoint; its record is all zero, and so is the epoch of flows without one. */
static __always_inline bool epoch_is_current(__u16 index, __u32 epoch)
{
	__u32 i = index;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &i);

	return endpoint && endpoint->epoch == epoch;
}

static __always_inline bool flow_is_judged(const struct flow *flow)
{
	return epoch_is_current(flow->src_endpoint, flow->src_epoch) &&
	       epoch_is_current(flow->dst_endpoint, flow->dst_epoch);
}

/* A UDP flow whose backend changed is to move (S45) with the client's next packet; answers that are on their
 * way still arrive, and a TCP connection stays (S33). */
static __always_inline bool flow_is_stale(const struct flow *flow, const struct packet *pkt)
{
	struct backend_state *state;
	__u32 id = flow->backend;

	if (pkt->key.proto != IPPROTO_UDP || (flow->flags & (FLOW_SERVICE | FLOW_IS_REPLY)) != FLOW_SERVICE)
		return false;
	state = bpf_map_lookup_elem(&backend_states, &id);
	return state && state->generation != flow->backend_generation;
}

/* A new connection with the tuple of one that has ended. */
static __always_inline bool flow_is_reused(const struct flow *flow, const struct packet *pkt)
{
	return packet_is_tcp_syn(pkt) && (flow->state == FLOW_CLOSED || flow->state == FLOW_CLOSING);
}

/* A UDP flow may go on for ever: once a tick it is asked whose its addresses are now (S45, S47). */
static __always_inline bool flow_is_reviewed(const struct flow *flow, const struct packet *pkt)
{
	return pkt->key.proto == IPPROTO_UDP && !(flow->flags & FLOW_IS_REPLY) && flow->last_seen != tick_now();
}

/* Where a flow may enter is part of it. What enters from the outside or the host has no fixed place, but a
 * pod's veth is none: a pod cannot join a connection of others by forging their tuple, nor can
 * a node by the overlay, nor can anybody join what goes by the overlay. */
static __always_inline bool flow_enters_here(const struct flow *flow, const struct packet *pkt, __u32 ifindex)
{
	if (pkt->hook == HOOK_from_overlay)
		return flow->in_node == pkt->node;
	if (config.overlay_ifindex && flow->in_node)
		return false;
	return flow->in_ifindex ? flow->in_ifindex == ifindex : pkt->hook != HOOK_from_pod;
}

/* No packet without SYN, FIN or RST changes this state. A TCP connection that is half closed may still carry
 * most of its data; other protocols wait for an answer, and their first packets for nothing. */
static __always_inline bool state_is_settled(const struct flow *flow, const struct packet *pkt)
{
	if (pkt->key.proto == IPPROTO_TCP)
		return flow->state >= FLOW_CLOSED;
	return flow->state == FLOW_ESTABLISHED || !(flow->flags & FLOW_IS_REPLY);
}

/* This packet may come in here and changes nothing about its flow. */
static __always_inline bool flow_is_settled(const struct flow *flow, const struct packet *pkt, __u32 ifindex)
{
	if (pkt->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))
		return false;
	if (!state_is_settled(flow, pkt) || !flow_enters_here(flow, pkt, ifindex))
		return false;
	return flow_is_judged(flow) && !flow_is_stale(flow, pkt) && !flow_is_reviewed(flow, pkt);
}

/* The stage. NEXT: no flow, or one that must be looked at more closely. */
static __always_inline enum verdict established(struct __sk_buff *ctx, struct packet *pkt)
{
	struct flow *flow;

	if (pkt->kind != PACKET_TUPLE)
		return VERDICT_NEXT;
	flow = bpf_map_lookup_elem(&flows, &pkt->key);
	if (!flow) {
		pkt->flags |= PACKET_NO_FLOW;
		return VERDICT_NEXT;
	}
	if (!flow_is_settled(flow, pkt, ctx->ifindex))
		return VERDICT_NEXT;
	return forward(ctx, pkt, flow);
}

#endif
