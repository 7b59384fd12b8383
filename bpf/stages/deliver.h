/* deliver: sends the rewritten packet where its flow goes. */
#ifndef BPFNET_STAGES_DELIVER_H
#define BPFNET_STAGES_DELIVER_H

#include "bpf/stages/next_hop.h"
#include "bpf/verdict.h"

static __always_inline enum verdict deliver_to_endpoint(struct __sk_buff *ctx, struct packet *pkt,
							const struct flow *flow)
{
	if (hook_is_ingress(ctx, pkt)) {
		/* The stack only takes up what the sender addressed to it; the veth beyond is not asked. */
		if (ctx->pkt_type != 0 /* PACKET_HOST */)
			bpf_skb_change_type(ctx, 0);
		pkt->code = bpf_redirect_peer(flow->out_ifindex, 0);
	} else if (flow->out_ifindex == ctx->ifindex) {
		pkt->code = TC_ACT_OK;
	} else {
		mark_ours(ctx);
		pkt->code = bpf_redirect(flow->out_ifindex, 0);
	}
	return VERDICT_TO_ENDPOINT;
}

static __always_inline enum verdict deliver_to_host(struct packet *pkt, const struct flow *flow)
{
	if (flow->out_ifindex)
		pkt->code = bpf_redirect(flow->out_ifindex, BPF_F_INGRESS);
	else
		pkt->code = TC_ACT_OK;
	return VERDICT_TO_HOST;
}

static __always_inline enum verdict deliver_to_next_hop(struct __sk_buff *ctx, struct packet *pkt,
							const struct flow *flow)
{
	if (pkt->flags & PACKET_KEEP_LINK) {
		pkt->code = TC_ACT_OK;
		return VERDICT_TO_NEXT_HOP;
	}
	mark_ours(ctx);
	if (pkt->flags & PACKET_NO_NEIGHBOUR)
		return next_hop_redirect(ctx, pkt);
	pkt->code = bpf_redirect(flow->out_ifindex, 0);
	return VERDICT_TO_NEXT_HOP;
}

static __always_inline enum verdict deliver(struct __sk_buff *ctx, struct packet *pkt, const struct flow *flow)
{
	pkt->out_ifindex = flow->out_ifindex;
	if (flow->action == FLOW_TO_ENDPOINT)
		return deliver_to_endpoint(ctx, pkt, flow);
	if (flow->action == FLOW_TO_HOST)
		return deliver_to_host(pkt, flow);
	if (flow_by_overlay(flow))
		return deliver_to_node(ctx, pkt, flow->out_node);
	return deliver_to_next_hop(ctx, pkt, flow);
}

#endif
