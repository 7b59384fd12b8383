/* defragment: fragments that came before the first one of their datagram. They are sent into a network
 * namespace of ours, whose stack joins the datagram and sends it back, cut again, in order. from_defrag then
 * puts it where it came in, and so every rule of that place holds for it as for any other packet. */
#ifndef BPFNET_STAGES_DEFRAGMENT_H
#define BPFNET_STAGES_DEFRAGMENT_H

#include <stddef.h>

#include "bpf/lib/mac.h"
#include "bpf/lib/proto.h"
#include "bpf/stages/fragment.h"
#include "bpf/stages/source.h"
#include "bpf/stages/tunnel.h"
#include "bpf/verdict.h"

static __always_inline void fragment_key_of_source(struct fragment_key *key, const struct packet *pkt)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->saddr = pkt->key.saddr;
	key->net = pkt->key.net;
	key->kind = FRAGMENT_SOURCE;
}

/* One more of its source's. False: too many of them never became a datagram lately. */
static __always_inline bool fragment_charge(const struct packet *pkt, __u32 ifindex)
{
	struct fragment fresh = { .tick = tick_now(), .ifindex = ifindex, .open = 1 };
	struct fragment_key key;
	struct fragment *source;

	fragment_key_of_source(&key, pkt);
	source = bpf_map_lookup_elem(&fragments, &key);
	if (!source || !fragment_is_current(source)) {
		bpf_map_update_elem(&fragments, &key, &fresh, BPF_ANY);
		return true;
	}
	source->ifindex = ifindex;
	if (source->open >= FRAGMENTS_OPEN_MAX)
		return false;
	source->open++;
	return true;
}

/* The way through the defragmenter costs a hop, which is none of the sender's affair. */
static __always_inline bool add_hop(struct __sk_buff *ctx, const struct packet *pkt)
{
	__u32 offset = ETH_HLEN + (pkt->family == 4 ? offsetof(struct iphdr, ttl) : offsetof(struct ipv6hdr, hop_limit));
	__be16 before, after;

	/* With the byte behind it, which in IPv4 is in the same word of the checksum. */
	if (bpf_skb_load_bytes(ctx, offset, &before, sizeof(before)))
		return false;
	if ((before & bpf_htons(0xff00)) == bpf_htons(0xff00))
		return true;
	after = bpf_htons(bpf_ntohs(before) + 0x100);
	if (pkt->family == 4 &&
	    bpf_l3_csum_replace(ctx, ETH_HLEN + offsetof(struct iphdr, check), before, after, sizeof(after)))
		return false;
	return !bpf_skb_store_bytes(ctx, offset, &after, sizeof(after), 0);
}

static __always_inline bool proto_is_tracked(__u8 proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_TCP || proto == IPPROTO_SCTP ||
	       proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* From the wire: for a pod, a service, or an address of this node, which may be a node port or the answer to a
 * masqueraded pod; without the ports nobody can tell, and what is the host's own comes back to it. */
static __always_inline bool may_be_ours(const struct packet *pkt)
{
	struct frontend_key marker = { .addr = pkt->key.daddr, .net = pkt->key.net };
	struct party party;

	party_find(&party, &pkt->key.daddr, pkt->key.net);
	if (party.flags & (ADDRESS_LOCAL_POD | ADDRESS_LOCAL_NODE) || party.cidr_flags & CIDR_SERVICE)
		return true;
	return bpf_map_lookup_elem(&frontends, &marker);
}

/* The sender is checked before its fragments meet those of others. NEXT: not for us. */
__weak __noinline int divert(struct __sk_buff *ctx, struct packet *pkt)
{
	struct fragment slow = { .tick = tick_now(), .state = FRAGMENT_SLOW };
	struct connection *conn = connection_begin();
	struct fragment_key key;
	enum verdict verdict;

	if (!pkt || !proto_is_tracked(pkt->key.proto))
		return VERDICT_NEXT;
	if (pkt->hook == HOOK_from_pod) {
		RUN(source_pod(ctx, pkt, conn));
	} else if (pkt->hook == HOOK_from_overlay) {
		RUN(source_overlay(pkt, conn));
	} else {
		if (!may_be_ours(pkt))
			return VERDICT_NEXT;
		RUN(source_uplink(ctx, pkt, conn));
	}
	if (!fragment_charge(pkt, ctx->ifindex))
		return drop(pkt, DROP_FRAGMENT_FLOOD);
	if (!add_hop(ctx, pkt))
		return drop(pkt, DROP_REWRITE_FAILED);
	fragment_key_of(&key, pkt, pkt->fragment_id);
	bpf_map_update_elem(&fragments, &key, &slow, BPF_ANY);
	if (ctx->pkt_type != 0 /* PACKET_HOST: the stack takes up nothing else */)
		bpf_skb_change_type(ctx, 0);
	pkt->out_ifindex = config.defrag_ifindex;
	pkt->code = bpf_redirect_peer(config.defrag_ifindex, 0);
	verdict = VERDICT_DEFRAGMENT;
out:
	return verdict;
}

/* The stage, of hooks at ingress. */
static __always_inline enum verdict defragment(struct __sk_buff *ctx, struct packet *pkt)
{
	if (pkt->kind != PACKET_FOREIGN || pkt->reason != DROP_FRAGMENT_UNKNOWN || !config.defrag_ifindex)
		return VERDICT_NEXT;
	return divert(ctx, pkt);
}

/* The device the datagram came in by: a pod's by its address, which was checked there. */
static __always_inline __u32 fragment_origin(const struct packet *pkt)
{
	struct endpoint *endpoint;
	struct fragment_key key;
	struct fragment *source;
	__u32 ifindex = primary_uplink_find();
	struct party party;

	fragment_key_of_source(&key, pkt);
	source = bpf_map_lookup_elem(&fragments, &key);
	if (source) {
		ifindex = source->ifindex;
		if (source->open)
			source->open--;
	}
	party_find(&party, &pkt->key.saddr, pkt->key.net);
	if (!(party.flags & ADDRESS_LOCAL_POD))
		return ifindex;
	endpoint = endpoint_find(party.endpoint);
	return endpoint ? endpoint->ifindex : 0;
}

/* What comes back from the defragmenter. Besides datagrams that is nothing: its stack has no address to speak
 * from, and nobody is told of what never became a datagram. */
__weak __noinline int resume(struct __sk_buff *ctx, struct packet *pkt)
{
	struct interface *interface;
	struct mac mac;
	__u32 ifindex;

	if (!ctx || !pkt)
		return VERDICT_DROP;
	if (pkt->kind != PACKET_TUPLE)
		return drop(pkt, pkt->kind == PACKET_FOREIGN ? pkt->reason : DROP_ICMP_UNRELATED);
	ifindex = fragment_origin(pkt);
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface)
		return drop(pkt, DROP_NOT_CONFIGURED);
	/* As if it came from the link: addressed to the device. */
	mac = interface->mac;
	if (bpf_skb_store_bytes(ctx, offsetof(struct ethhdr, h_dest), &mac, sizeof(mac), 0))
		return drop(pkt, DROP_REWRITE_FAILED);
	/* The tunnel it came by is forgotten: tunnel_sender goes by the mark. */
	if (interface->kind == INTERFACE_OVERLAY)
		mark_ours(ctx);
	pkt->out_ifindex = ifindex;
	pkt->code = bpf_redirect(ifindex, BPF_F_INGRESS);
	return VERDICT_DEFRAGMENT;
}

#endif
