/* tunnel: packets to and from other nodes by the overlay, one VXLAN device for all of them. Each packet says by
 * itself where its tunnel ends; the device does the rest. There is no `to_overlay`: what has no such word, which
 * is all that does not come from here, the device drops. */
#ifndef BPFNET_STAGES_TUNNEL_H
#define BPFNET_STAGES_TUNNEL_H

#include "bpf/connection.h"
#include "bpf/lib/addr.h"
#include "bpf/lib/identity.h"
#include "bpf/lib/mark.h"
#include "bpf/lib/proto.h"
#include "bpf/verdict.h"

enum { TUNNEL_HOPS = 64 };

/* Without an overlay no program has a trace of it. */
static __always_inline bool flow_by_overlay(const struct flow *flow)
{
	return config.overlay_ifindex && flow->action == FLOW_TO_NODE;
}

static __always_inline struct node *node_find(__u16 index)
{
	__u32 i = index;

	return bpf_map_lookup_elem(&nodes, &i);
}

/* 0: nothing is known of the node. */
static __always_inline __u16 node_mtu(__u16 index)
{
	struct node *node = node_find(index);

	return node ? node->mtu : 0;
}

/* What the network between the nodes would not know the way to, or back: other nodes' pods, and from pods those
 * nodes themselves. Nodes among themselves need no tunnel. */
static __always_inline bool needs_overlay(__u16 src_flags, __u16 dst_flags, __u16 dst_node)
{
	if (!config.overlay_ifindex)
		return false;
	if (dst_flags & ADDRESS_REMOTE_NODE)
		return src_flags & ADDRESS_LOCAL_POD;
	return dst_node || dst_flags & ADDRESS_POD;
}

/* What fits is the node's, and may have changed. */
static __always_inline void flow_fit(struct flow *flow)
{
	__u16 mtu = node_mtu(flow->out_node);

	if (flow->mtu != mtu)
		flow->mtu = mtu;
}

/* Packets of this direction go to the node. */
static __always_inline void flow_lead(struct flow *flow, __u16 node)
{
	flow->action = FLOW_TO_NODE;
	flow->out_node = node;
	flow->out_ifindex = config.overlay_ifindex;
	flow->smac = (struct mac)OVERLAY_MAC_FROM;
	flow->dmac = (struct mac)OVERLAY_MAC_TO;
	flow->mtu = node_mtu(node);
}

/* The frame is as it is to arrive. A sum over the whole of it is IPv6's rule; IPv4's tunnels go without (RFC 7348). */
static __always_inline long tunnel_to(struct __sk_buff *ctx, const struct node *node)
{
	struct connection *scratch = connection_get();
	struct bpf_tunnel_key *key;

	if (!scratch)
		return -1;
	key = &scratch->tunnel;
	__builtin_memset(key, 0, sizeof(*key));
	key->tunnel_id = config.overlay_vni;
	key->tunnel_ttl = TUNNEL_HOPS;
	if (addr_is_v4(&node->addr)) {
		key->remote_ipv4 = bpf_ntohl(node->addr.w[3]);
		key->local_ipv4 = bpf_ntohl(node->source.w[3]);
		return bpf_skb_set_tunnel_key(ctx, key, sizeof(*key), BPF_F_ZERO_CSUM_TX);
	}
	__builtin_memcpy(key->remote_ipv6, &node->addr, sizeof(key->remote_ipv6));
	__builtin_memcpy(key->local_ipv6, &node->source, sizeof(key->local_ipv6));
	return bpf_skb_set_tunnel_key(ctx, key, sizeof(*key), BPF_F_TUNINFO_IPV6);
}

/* To where the node is now: flows know it by its index alone. */
static __always_inline enum verdict deliver_to_node(struct __sk_buff *ctx, struct packet *pkt, __u16 index)
{
	struct node *node = node_find(index);

	if (!node || addr_is_unspecified(&node->addr))
		return drop(pkt, DROP_NO_ROUTE);
	if (tunnel_to(ctx, node))
		return drop(pkt, DROP_REWRITE_FAILED);
	mark_ours(ctx);
	pkt->code = bpf_redirect(config.overlay_ifindex, 0);
	return VERDICT_TO_NODE;
}

/* From the wire: the tunnels themselves are the stack's, and have no flow. */
static __always_inline enum verdict tunnel_pass(struct packet *pkt)
{
	struct address_info *info;

	if (!config.overlay_ifindex || pkt->kind != PACKET_TUPLE || pkt->key.proto != IPPROTO_UDP ||
	    pkt->key.dport != config.overlay_port)
		return VERDICT_NEXT;
	info = address_find(&pkt->key.daddr, pkt->key.net);
	return info && info->flags & ADDRESS_LOCAL_NODE ? pass(pkt) : VERDICT_NEXT;
}

/* Where a tunnel began; false: the packet came by none. */
static __always_inline bool tunnel_source(struct __sk_buff *ctx, struct addr *from, __u32 *vni)
{
	struct connection *scratch = connection_get();
	struct bpf_tunnel_key *key;

	if (!scratch)
		return false;
	key = &scratch->tunnel;
	if (!bpf_skb_get_tunnel_key(ctx, key, sizeof(*key), 0))
		addr_from_v4(from, bpf_htonl(key->remote_ipv4));
	else if (!bpf_skb_get_tunnel_key(ctx, key, sizeof(*key), BPF_F_TUNINFO_IPV6))
		__builtin_memcpy(from, key->remote_ipv6, sizeof(*from));
	else
		return false;
	*vni = key->tunnel_id;
	return true;
}

/* Sets pkt->node: which of the other nodes this is from. What the defragmenter gives back has been here before,
 * and source_overlay has found it to be of the node that its own source belongs to. */
static __always_inline enum verdict tunnel_sender(struct __sk_buff *ctx, struct packet *pkt)
{
	struct party sender = {};
	struct addr from;
	__u32 vni;

	if (tunnel_source(ctx, &from, &vni)) {
		struct address_info *info = address_find(&from, 0);

		if (info && info->flags & ADDRESS_REMOTE_NODE && vni == config.overlay_vni)
			sender.node = info->node;
	} else if (marked_ours(ctx)) {
		ctx->mark &= ~config.mark_mask;
		party_find(&sender, &pkt->key.saddr, pkt->key.net);
	}
	pkt->node = sender.node;
	return pkt->node ? VERDICT_NEXT : drop(pkt, DROP_FOREIGN_TUNNEL);
}

/* The first packet of a flow: for a pod here or for this node. Nobody sends others by us. */
static __always_inline enum verdict tunnel_end(struct packet *pkt)
{
	struct address_info *info = address_find(&pkt->key.daddr, pkt->key.net);

	if (pkt->kind == PACKET_ARP || pkt->kind == PACKET_ND)
		return drop(pkt, DROP_UNKNOWN_L4); /* tunnels have no neighbours */
	if (info && info->flags & (ADDRESS_LOCAL_POD | ADDRESS_LOCAL_NODE))
		return VERDICT_NEXT;
	return drop(pkt, DROP_NO_ROUTE);
}

#endif
