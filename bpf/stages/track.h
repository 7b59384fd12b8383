/* track: packets of a known flow that change it: TCP's beginning and end, the first answer, a moved backend. */
#ifndef BPFNET_STAGES_TRACK_H
#define BPFNET_STAGES_TRACK_H

#include "bpf/stages/flow.h"
#include "bpf/stages/frontend.h"
#include "bpf/stages/slots.h"
#include "bpf/verdict.h"

/* NEW -(answer)-> REPLIED -(ACK)-> ESTABLISHED; FIN -> CLOSING; FIN from both, or RST -> CLOSED. States of
 * the closing side are never left but by a new connection. */
static __always_inline __u8 tcp_next_state(struct flow *flow, const struct flow *peer, __u8 flags)
{
	if (flags & TCP_RST || flow->state == FLOW_CLOSED)
		return FLOW_CLOSED;
	if (flags & TCP_FIN)
		flow->flags |= FLOW_FIN_SEEN;
	if (flow->flags & peer->flags & FLOW_FIN_SEEN)
		return FLOW_CLOSED;
	if (flags & TCP_FIN || flow->state == FLOW_CLOSING)
		return FLOW_CLOSING;
	if (!(flags & TCP_ACK))
		return flow->state;
	if (flow->state == FLOW_NEW && flow->flags & FLOW_IS_REPLY)
		return FLOW_REPLIED;
	if (flow->state == FLOW_REPLIED && !(flow->flags & FLOW_IS_REPLY))
		return FLOW_ESTABLISHED;
	return flow->state;
}

static __always_inline void flow_advance(struct flow *flow, struct flow *peer, const struct packet *pkt)
{
	__u8 before = flow->state, state = before;

	if (pkt->key.proto == IPPROTO_TCP)
		state = tcp_next_state(flow, peer, pkt->tcp_flags);
	else if (flow->flags & FLOW_IS_REPLY)
		state = FLOW_ESTABLISHED;
	/* Another CPU may have cut the connection meanwhile. */
	if (state == before)
		return;
	flow->state = state;
	peer->state = state;
}

/* A flow whose address is another service's now. */
__weak __noinline int joins_service(struct packet *pkt, __u32 service)
{
	struct connection *scratch = connection_get();

	return pkt && scratch && passed_to_another(&pkt->key, service, &scratch->frontend);
}

/* A flow that goes out with an address that the node has no more, so that no answer finds it, or a pod's whose
 * destination has come to this node or left it. */
__weak __noinline int has_stale_addresses(struct packet *pkt)
{
	struct flow *flow;
	bool is_here;

	if (!pkt)
		return false;
	flow = flow_find(&pkt->key);
	if (!flow)
		return false;
	if (flow->flags & FLOW_MASQUERADED && !addr_equal(&flow->peer.daddr, &pkt->key.saddr) &&
	    !(address_flags_find(&flow->peer.daddr, 0) & ADDRESS_LOCAL_NODE))
		return true;
	is_here = address_flags_find(&flow->peer.saddr, pkt->key.net) & ADDRESS_LOCAL_NODE;
	return flow->src_endpoint && is_here != (flow->action == FLOW_TO_HOST);
}

/* Once a tick. */
static __always_inline bool flow_is_outdated(const struct flow *flow, struct packet *pkt)
{
	return flow_is_reviewed(flow, pkt) && (joins_service(pkt, flow->service) || has_stale_addresses(pkt));
}

/* What the packet may not go on with. Never a flow that was made for it: its backend may have moved since it was
 * chosen, which is the next packet's matter. */
static __always_inline bool flow_has_ended(const struct flow *flow, struct packet *pkt)
{
	if (pkt->flags & PACKET_BEGINS)
		return false;
	return flow_is_reused(flow, pkt) || flow_is_stale(flow, pkt) ||
	       flow_is_outdated(flow, pkt);
}

/* NEXT: there is no flow, or none any more. */
__weak __noinline int track_flow(struct __sk_buff *ctx, struct packet *pkt)
{
	struct flow *flow, *peer;

	if (!pkt || pkt->kind != PACKET_TUPLE)
		return VERDICT_NEXT;
	flow = flow_find(&pkt->key);
	if (!flow) {
		forget_read(pkt); /* readmit may have found it */
		return VERDICT_NEXT;
	}
	peer = bpf_map_lookup_elem(&flows, &flow->peer);
	if (!peer || flow_has_ended(flow, pkt)) {
		forget_flow(pkt, flow->slot);
		return VERDICT_NEXT;
	}
	flow_advance(flow, peer, pkt);
	return forward(ctx, pkt, flow);
}

/* The stage. */
static __always_inline enum verdict track(struct __sk_buff *ctx, struct packet *pkt)
{
	return pkt->flags & PACKET_NO_FLOW ? VERDICT_NEXT : track_flow(ctx, pkt);
}

/* What a hook's list ends with: the flow that the stages before have made takes the packet on. */
static __always_inline enum verdict begin(struct __sk_buff *ctx, struct packet *pkt)
{
	enum verdict verdict;

	pkt->flags |= PACKET_BEGINS;
	verdict = track_flow(ctx, pkt);
	return verdict == VERDICT_NEXT ? drop(pkt, DROP_NO_FLOW) : verdict;
}

#endif
