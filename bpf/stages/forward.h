/* forward: a packet of a known flow, on its way. Limits, rewrite, deliver. */
#ifndef BPFNET_STAGES_FORWARD_H
#define BPFNET_STAGES_FORWARD_H

#include "bpf/lib/time.h"
#include "bpf/stages/deliver.h"
#include "bpf/stages/rewrite.h"
#include "bpf/verdict.h"

/* One hop for each crossing of the node; the host's own stack is not a crossing. */
static __always_inline bool is_routed(const struct packet *pkt, const struct flow *flow)
{
	return (pkt->hook == HOOK_from_pod || packet_is_from_wire(pkt)) && flow->action != FLOW_TO_HOST;
}

/* L3 bytes of the largest packet that will leave: of a GSO packet, one segment's. */
static __always_inline __u32 wire_length(struct __sk_buff *ctx, const struct packet *pkt)
{
	void *end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	__u8 *l4 = data + (pkt->l4_offset & PACKET_OFFSET_MASK);
	__u32 header = 8; /* UDP */

	if (!ctx->gso_size)
		return pkt->length;
	if (pkt->l4_proto == IPPROTO_TCP)
		header = (void *)(l4 + 13) <= end ? l4[12] >> 4 << 2 : 60;
	return ctx->gso_size + pkt->l4_offset - ETH_HLEN + header;
}

static __always_inline enum verdict limits(struct __sk_buff *ctx, struct packet *pkt, const struct flow *flow,
					   bool routed)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u8 hops;

	if (data + ETH_HLEN + sizeof(struct iphdr) > end)
		return drop(pkt, DROP_TRUNCATED);
	/* IPv4's time to live and IPv6's hop limit. */
	hops = ((__u8 *)data)[ETH_HLEN + (pkt->family == 4 ? 8 : 7)];
	if (routed && hops <= 1)
		return reject(pkt, DROP_TTL_EXCEEDED);
	if (flow->mtu && pkt->length > flow->mtu && wire_length(ctx, pkt) > flow->mtu) {
		pkt->mtu = flow->mtu;
		return reject(pkt, DROP_TOO_BIG);
	}
	return VERDICT_NEXT;
}

static __always_inline void flow_enter_by_host_device(struct flow *flow)
{
	flow->out_ifindex = config.host_ifindex;
	flow->smac = flow->dmac = host_mac();
}

/* The door into the stack is that of the flow's first packet. Where packets come by another way now, or the device
 * was made anew, it is another: the stack takes nothing from a device that it has no route to the sender by. */
static __always_inline void flow_fit_door(const struct packet *pkt, struct flow *flow)
{
	__u32 door = flow->out_ifindex;

	if (pkt->hook == HOOK_from_overlay && !door)
		flow_enter_by_host_device(flow);
	if (!door || door == LOOPBACK_IFINDEX)
		return;
	if (pkt->hook == HOOK_from_uplink && addr_equal(&flow->peer.daddr, &pkt->key.saddr))
		flow->out_ifindex = 0;
	else if (door != config.host_ifindex)
		flow_enter_by_host_device(flow);
}

/* Leaves as the stack made it: into the stack where it stands, or out of the device it is leaving by. */
static __always_inline bool keeps_link(struct __sk_buff *ctx, const struct packet *pkt, const struct flow *flow)
{
	if (flow->action == FLOW_TO_HOST)
		return !flow->out_ifindex;
	return pkt->hook == HOOK_to_uplink && flow->action == FLOW_TO_NEXT_HOP &&
	       flow->out_ifindex == ctx->ifindex && addr_equal(&flow->peer.saddr, &pkt->key.daddr);
}

/* Led by an overlay that is no more: what it has cached of the way is that of a device that is gone. */
static __always_inline bool flow_lost_overlay(const struct flow *flow)
{
	return !config.overlay_ifindex && flow->action == FLOW_TO_NODE;
}

/* Out by a next hop that is not cached, or not to be trusted without asking. */
static __always_inline bool asks_next_hop(const struct packet *pkt, const struct flow *flow)
{
	if (!(pkt->flags & PACKET_NO_NEIGHBOUR) || pkt->flags & PACKET_KEEP_LINK)
		return false;
	return flow->action == FLOW_TO_NEXT_HOP || flow_lost_overlay(flow);
}

/* Before the packet is measured: the way that is found may be one where less fits. */
static __always_inline enum verdict find_way(struct __sk_buff *ctx, struct packet *pkt, const struct flow *flow)
{
	enum verdict verdict = VERDICT_NEXT;

	if (config.overlay_ifindex && asks_next_hop(pkt, flow))
		RUN(join_overlay(pkt));
	if (asks_next_hop(pkt, flow))
		RUN(next_hop_resolve(ctx, pkt));
out:
	return verdict;
}

static __always_inline enum verdict forward(struct __sk_buff *ctx, struct packet *pkt, struct flow *flow)
{
	bool routed = is_routed(pkt, flow);
	__u32 now = tick_now();
	enum verdict verdict;

	if (flow->action == FLOW_TO_HOST)
		flow_fit_door(pkt, flow);
	if (keeps_link(ctx, pkt, flow))
		pkt->flags |= PACKET_KEEP_LINK;
	if (flow->last_seen != now) {
		flow->last_seen = now;
		pkt->flags |= PACKET_NO_NEIGHBOUR;
	}
	if (mac_is_zero(&flow->dmac) || flow_lost_overlay(flow))
		pkt->flags |= PACKET_NO_NEIGHBOUR;
	RUN(find_way(ctx, pkt, flow));
	if (flow_by_overlay(flow))
		flow_fit(flow);
	RUN(limits(ctx, pkt, flow, routed));
	flow->packets++;
	flow->bytes += pkt->length;
	RUN(rewrite(ctx, pkt, flow, routed));
	verdict = deliver(ctx, pkt, flow);
out:
	return verdict;
}

#endif
