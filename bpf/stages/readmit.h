/* readmit: a known flow whose packet may not come in here any more, or not without another look: it came by
 * a device that is not its sender's, or the policy of one of its ends has changed. */
#ifndef BPFNET_STAGES_READMIT_H
#define BPFNET_STAGES_READMIT_H

#include "bpf/stages/flow.h"
#include "bpf/stages/policy.h"
#include "bpf/stages/slots.h"
#include "bpf/verdict.h"

/* The packet's own ends, of one that goes back. */
static __always_inline void packet_reverse(struct packet *pkt)
{
	__u32 identity = pkt->src_identity;
	__u16 endpoint = pkt->src_endpoint;

	pkt->src_identity = pkt->dst_identity;
	pkt->src_endpoint = pkt->dst_endpoint;
	pkt->dst_identity = identity;
	pkt->dst_endpoint = endpoint;
	pkt->flags ^= PACKET_REVERSED;
}

/* The flags are everybody's: left alone where nothing changes. */
static __always_inline void flow_audited(struct flow *flow, const struct packet *pkt)
{
	bool audited = pkt->flags & PACKET_AUDITED;

	if (audited && !(flow->flags & FLOW_AUDITED))
		flow->flags |= FLOW_AUDITED;
	else if (!audited && flow->flags & FLOW_AUDITED)
		flow->flags &= ~FLOW_AUDITED;
}

/* Judged by its original tuple, whichever way the packet goes. */
static __always_inline enum verdict judge_again(struct packet *pkt, struct flow *flow, struct flow *peer)
{
	bool is_reply = flow->flags & FLOW_IS_REPLY;
	const struct flow_key *original = is_reply ? &flow->peer : &pkt->key;
	const struct flow_key *reply = is_reply ? &pkt->key : &flow->peer;
	struct parties who = {};
	enum verdict verdict;
	struct party src;

	who.dst = reply->saddr;
	who.port = reply->sport;
	who.net = original->net;
	who.proto = original->proto;
	who.src_endpoint = pkt->src_endpoint = flow->src_endpoint;
	party_find(&src, &original->saddr, who.net);
	pkt->src_identity = src.identity;
	who.own_node = !!(src.flags & ADDRESS_LOCAL_NODE);
	who.by_service = !!(flow->flags & FLOW_SERVICE);
	if (!is_reply && who.by_service) { /* for events: policy judges the backend */
		pkt->backend = who.dst;
		pkt->backend_port = who.port;
	}
	verdict = judge(pkt, &who);
	if (verdict == VERDICT_NEXT && flow->flags & FLOW_PICKED_UP)
		verdict = judge_reversed(pkt, &who, original);
	if (is_reply)
		packet_reverse(pkt);
	if (verdict != VERDICT_NEXT)
		return verdict;
	flow_audited(flow, pkt);
	flow_audited(peer, pkt);
	flow->src_epoch = peer->src_epoch = who.src_epoch;
	flow->dst_epoch = peer->dst_epoch = who.dst_epoch;
	flow->rule = peer->rule = pkt->rule;
	return VERDICT_NEXT;
}

/* The pod that this direction's packets came from is gone: its address may be another's by now. */
static __always_inline bool flow_is_orphaned(const struct flow *flow)
{
	struct endpoint *sender = endpoint_find(flow->flags & FLOW_IS_REPLY ? flow->dst_endpoint : flow->src_endpoint);

	return flow->in_ifindex && (!sender || sender->ifindex != flow->in_ifindex);
}

/* Another node sends this for what is its own by now: the pod was another node's, or the flow is of a time before
 * the overlay. It goes on by the way that its packets come. */
static __always_inline bool flow_changes_way(const struct packet *pkt, struct flow *flow)
{
	struct flow *back = bpf_map_lookup_elem(&flows, &flow->peer);
	struct party sender;

	if (pkt->hook != HOOK_from_overlay || !back)
		return false;
	party_find(&sender, &pkt->key.saddr, pkt->key.net);
	if (sender.node != pkt->node)
		return false;
	flow->in_node = pkt->node;
	flow_lead(back, pkt->node);
	return true;
}

/* The connection's destination is another pod's by now. `pkt` as judge_again() leaves it. */
static __always_inline bool flow_has_moved(const struct flow *flow, const struct packet *pkt)
{
	return flow->dst_endpoint != (flow->flags & FLOW_IS_REPLY ? pkt->src_endpoint : pkt->dst_endpoint);
}

/* The other end is to hear of it too, and only this pair can tell: nobody else knows which backend the address of
 * the service stands for. It stays as a closed one that was never allowed, so that whoever sends is judged, denied
 * and told. */
static __always_inline bool tells_both_ends(const struct flow *flow, const struct packet *pkt)
{
	return pkt->flags & PACKET_TELL && pkt->key.proto == IPPROTO_TCP && !packet_is_tcp_syn(pkt) &&
	       flow->flags & FLOW_TRANSLATED && !flow_has_moved(flow, pkt);
}

/* A connection that is denied now is cut (P17). */
static __always_inline void cut(struct flow *flow, struct flow *peer, const struct packet *pkt)
{
	if (!tells_both_ends(flow, pkt)) {
		pair_remove(flow->slot);
		return;
	}
	flow->last_seen = peer->last_seen = tick_now(); /* from now on it expires */
	barrier();
	flow->state = peer->state = FLOW_CLOSED;
}

/* What was a removed pod's is nobody's: whoever has its address now begins anew. */
__weak __noinline int readmit_flow(struct __sk_buff *ctx, struct packet *pkt)
{
	struct flow *flow, *peer;
	enum verdict verdict;

	if (!pkt || pkt->kind != PACKET_TUPLE)
		return VERDICT_NEXT;
	flow = flow_find(&pkt->key);
	if (!flow)
		return VERDICT_NEXT;
	if (!flow_enters_here(flow, pkt, ctx->ifindex) && !flow_changes_way(pkt, flow)) {
		if (!flow_is_orphaned(flow))
			return drop(pkt, DROP_SPOOFED);
		forget_flow(pkt, flow->slot);
		return VERDICT_NEXT;
	}
	if (flow_is_reused(flow, pkt)) {
		forget_flow(pkt, flow->slot); /* another backend may be allowed */
		return VERDICT_NEXT;
	}
	pkt->service = flow->service;
	if (flow_is_judged(flow))
		return VERDICT_NEXT;
	peer = bpf_map_lookup_elem(&flows, &flow->peer);
	if (!peer)
		return VERDICT_NEXT; /* track removes half pairs */
	verdict = judge_again(pkt, flow, peer);
	if (verdict != VERDICT_NEXT)
		cut(flow, peer, pkt);
	else if (flow_has_moved(flow, pkt))
		forget_flow(pkt, flow->slot);
	return verdict;
}

/* The stage. */
static __always_inline enum verdict readmit(struct __sk_buff *ctx, struct packet *pkt)
{
	return pkt->flags & PACKET_NO_FLOW ? VERDICT_NEXT : readmit_flow(ctx, pkt);
}

#endif
