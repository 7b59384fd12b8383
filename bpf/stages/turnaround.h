/* turnaround: the XDP side of forward. A packet is either rewritten whole and sent back out of the device it
 * came in by, or left untouched for TC. */
#ifndef BPFNET_STAGES_TURNAROUND_H
#define BPFNET_STAGES_TURNAROUND_H

#include "bpf/finish.h"
#include "bpf/stages/flow.h"
#include "bpf/stages/parse.h"
#include "bpf/stages/rewrite.h"

/* The common case only; TC reads the rest. */
static __always_inline bool xdp_parse(struct xdp_md *ctx, struct packet *pkt)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	return data + ETH_HLEN <= end && parse_common(data, end, end - data - ETH_HLEN, pkt);
}

/* Settled, seen in this tick so that TC has just asked the neighbour layer, and not to be answered by an
 * error. */
static __always_inline bool turns_around(struct xdp_md *ctx, const struct packet *pkt, const struct flow *flow)
{
	if (flow->action != FLOW_TO_NEXT_HOP || flow->out_ifindex != ctx->ingress_ifindex)
		return false;
	if (flow->last_seen != tick_now() || mac_is_zero(&flow->dmac))
		return false;
	if (flow->mtu && pkt->length > flow->mtu)
		return false;
	return flow_is_settled(flow, pkt, ctx->ingress_ifindex);
}

/* Nothing is written before everything is known to fit. */
static __always_inline bool xdp_rewrite(struct xdp_md *ctx, struct packet *pkt, const struct flow *flow)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u16 *field = data + (pkt->l4_offset & PACKET_OFFSET_MASK);
	struct rewrite change = {};

	field += pkt->l4_proto == IPPROTO_TCP ? 8 : 3;
	if ((void *)(field + 1) > end || data + ETH_HLEN + sizeof(struct iphdr) > end)
		return false;
	if (((__u8 *)data)[ETH_HLEN + (pkt->family == 4 ? 8 : 7)] <= 1)
		return false;
	/* Of a local sender, over veth: nobody behind XDP would finish that sum. */
	if (*field && checksum_may_be_partial(data, pkt, *field))
		return false;
	if (!rewrite_l3(data, end, pkt, flow, true, &change))
		return false;
	eth_set(data, &flow->dmac, &flow->smac);
	if (!(flow->flags & FLOW_TRANSLATED))
		return true;
	rewrite_l4(data, end, pkt, flow, &change);
	rewrite_checksum_inline(data, end, pkt, &change);
	return true;
}

static __always_inline int turn_around(struct packet *pkt, struct flow *flow)
{
	flow->packets++;
	flow->bytes += pkt->length;
	count(&verdict_counts, HOOK_xdp_uplink * VERDICTS_MAX + VERDICT_TO_NEXT_HOP, pkt->length);
	return XDP_TX;
}

#endif
