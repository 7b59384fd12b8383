/* icmp_reply: errors that the datapath itself sends. The dropped packet becomes the answer: cut short, an
 * ICMP header and an IP header put before it, and sent back to where it came from. */
#ifndef BPFNET_STAGES_ICMP_REPLY_H
#define BPFNET_STAGES_ICMP_REPLY_H

#include <linux/ip.h>
#include <linux/ipv6.h>

#include "bpf/connection.h"
#include "bpf/lib/checksum.h"
#include "bpf/lib/icmp.h"
#include "bpf/lib/identity.h"
#include "bpf/lib/proto.h"
#include "bpf/stages/deliver.h"
#include "bpf/stages/route.h"
#include "bpf/stages/tcp_reset.h"
#include "bpf/verdict.h"

enum {
	REPLY_HOPS = 64,
	QUOTE_MIN = 28,
};

/* The headers in front of the quoted packet. */
struct reply4 {
	struct iphdr ip;
	struct icmp_header icmp;
};

struct reply6 {
	struct ipv6hdr ip6;
	struct icmp_header icmp;
};

static __always_inline void reply_type(const struct packet *pkt, struct icmp_header *icmp)
{
	bool v4 = pkt->family == 4;

	switch (pkt->reason) {
	case DROP_TTL_EXCEEDED:
		icmp->type = v4 ? ICMP_TIME_EXCEEDED : ICMPV6_TIME_EXCEED;
		break;
	case DROP_TOO_BIG:
		icmp->type = v4 ? ICMP_DEST_UNREACH : ICMPV6_PKT_TOOBIG;
		icmp->code = v4 ? ICMP_FRAG_NEEDED : 0;
		if (v4)
			icmp->frag.mtu = bpf_htons(pkt->mtu);
		else
			icmp->mtu6 = bpf_htonl(pkt->mtu);
		break;
	case DROP_POLICY_EGRESS:
	case DROP_POLICY_INGRESS:
		icmp->type = v4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH;
		icmp->code = v4 ? ICMP_ADMIN_PROHIBITED : ICMPV6_ADMIN_PROHIBITED;
		break;
	default: /* a service that has nobody to answer */
		icmp->type = v4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH;
		icmp->code = v4 ? ICMP_PORT_UNREACH : ICMPV6_PORT_UNREACH;
	}
}

/* Who speaks: a router for itself, with its address towards the sender; a service for its own address, which
 * the sender's stack is sure to have a route for, and so does whatever the host's stack asked for. */
static __always_inline bool reply_source(const struct packet *pkt, struct addr *from)
{
	__u32 ifindex = pkt->hook == HOOK_from_uplink ? primary_uplink_find() : config.host_ifindex;
	struct interface *interface;

	*from = pkt->key.daddr;
	if (pkt->hook == HOOK_from_host || pkt->hook == HOOK_to_uplink || pkt->hook == HOOK_to_pod ||
	    pkt->reason == DROP_NO_BACKEND || pkt->reason == DROP_NO_SERVICE)
		return true;
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface)
		return false;
	*from = pkt->family == 4 ? interface->ip4 : interface->ip6;
	return !addr_is_unspecified(from);
}

/* Room for the new headers, and not more of the old packet than is quoted. Returns the quoted length. */
static __always_inline __u32 reply_make_room(struct __sk_buff *ctx, const struct packet *pkt)
{
	__u32 quote = ctx->len - ETH_HLEN;
	__u32 header = pkt->family == 4 ? sizeof(struct reply4) : sizeof(struct reply6);

	quote = quote > QUOTE_MAX ? QUOTE_MAX : quote & ~3u;
	if (quote < QUOTE_MIN)
		return 0;
	/* Also makes a GSO packet a plain one. */
	if (bpf_skb_change_tail(ctx, ETH_HLEN + quote, 0) || bpf_skb_adjust_room(ctx, header, BPF_ADJ_ROOM_MAC, 0))
		return 0;
	return quote;
}

/* Sum of the quoted packet, which begins at `offset`; a multiple of 4 bytes. */
static __always_inline __s64 quote_sum(struct __sk_buff *ctx, __u32 offset, __u32 quote)
{
	struct connection *scratch = connection_get();

	/* The bounds again, in a form that every verifier follows. */
	asm volatile("" : "+r"(quote));
	if (!scratch || quote < QUOTE_MIN || quote > QUOTE_MAX)
		return -1;
	if (bpf_skb_load_bytes(ctx, offset, scratch->quote, quote))
		return -1;
	return bpf_csum_diff(NULL, 0, (__be32 *)scratch->quote, quote & 0xfc, 0);
}

__weak __noinline int reply4(struct __sk_buff *ctx, struct packet *pkt, struct addr *from, __u32 quote)
{
	struct reply4 reply = {};
	const __u16 *words = (const void *)&reply.ip;
	__u64 sum = 0;
	__s64 quoted;

	if (!pkt || !from)
		return -1;
	reply.ip.version = 4;
	reply.ip.ihl = 5;
	reply.ip.tot_len = bpf_htons(sizeof(reply) + quote);
	reply.ip.ttl = REPLY_HOPS;
	reply.ip.protocol = IPPROTO_ICMP;
	reply.ip.saddr = from->w[3];
	reply.ip.daddr = pkt->key.saddr.w[3];
	for (int i = 0; i < 10; i++)
		sum += words[i];
	reply.ip.check = ~csum_fold16(sum);
	reply_type(pkt, &reply.icmp);
	quoted = quote_sum(ctx, ETH_HLEN + sizeof(reply), quote);
	if (quoted < 0)
		return -1;
	words = (const void *)&reply.icmp;
	sum = quoted;
	for (int i = 0; i < 4; i++)
		sum += words[i];
	reply.icmp.check = ~csum_fold16(sum);
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &reply, sizeof(reply), BPF_F_INVALIDATE_HASH);
}

__weak __noinline int reply6(struct __sk_buff *ctx, struct packet *pkt, struct addr *from, __u32 quote)
{
	struct reply6 reply = {};
	const __u16 *words = (const void *)&reply.ip6.saddr;
	__s64 quoted;
	__u64 sum;

	if (!pkt || !from)
		return -1;
	reply.ip6.version = 6;
	reply.ip6.payload_len = bpf_htons(sizeof(reply.icmp) + quote);
	reply.ip6.nexthdr = IPPROTO_ICMPV6;
	reply.ip6.hop_limit = REPLY_HOPS;
	__builtin_memcpy(&reply.ip6.saddr, from, sizeof(*from));
	__builtin_memcpy(&reply.ip6.daddr, &pkt->key.saddr, sizeof(pkt->key.saddr));
	reply_type(pkt, &reply.icmp);
	quoted = quote_sum(ctx, ETH_HLEN + sizeof(reply), quote);
	if (quoted < 0)
		return -1;
	/* Pseudo header: length, protocol, and the addresses, which stand before the message. */
	sum = quoted + bpf_htons(sizeof(reply.icmp) + quote) + bpf_htons(IPPROTO_ICMPV6);
	for (int i = 0; i < 20; i++)
		sum += words[i];
	reply.icmp.check = ~csum_fold16(sum);
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &reply, sizeof(reply), BPF_F_INVALIDATE_HASH);
}

/* Back to the sender: a pod or the wire by the device it came from, the host's stack by ours, or by lo when
 * that is where it looks for the answer. */
static __always_inline int reply_send(struct __sk_buff *ctx, struct packet *pkt, const struct addr *from)
{
	bool to_stack = pkt->hook == HOOK_from_host || pkt->hook == HOOK_to_uplink || pkt->hook == HOOK_to_pod;
	struct address_info *info = address_find(from, pkt->key.net);
	/* An address that no route of ours leads to would fail the reverse path check on our device. */
	bool local = addr_is_loopback(from) || (info && info->flags & ADDRESS_LOCAL_NODE) ||
		     pkt->hook == HOOK_to_uplink;
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct mac mac;

	if (data + ETH_HLEN > end)
		return TC_ACT_SHOT;
	if (pkt->hook == HOOK_from_overlay) {
		struct mac to = (struct mac)OVERLAY_MAC_TO;

		mac = (struct mac)OVERLAY_MAC_FROM;
		eth_set(data, &to, &mac);
		return deliver_to_node(ctx, pkt, pkt->node) == VERDICT_TO_NODE ? pkt->code : TC_ACT_SHOT;
	}
	if (!to_stack) {
		eth_swap(data);
		mark_ours(ctx);
		return bpf_redirect(ctx->ifindex, 0);
	}
	mac = host_mac();
	if (local)
		__builtin_memset(&mac, 0, sizeof(mac));
	eth_set(data, &mac, &mac);
	return bpf_redirect(local ? LOOPBACK_IFINDEX : config.host_ifindex, BPF_F_INGRESS);
}

/* Nothing is said of an ICMP error or a reset, nor to a sender that is many or nobody (RFC 1122, 3.2.2; RFC
 * 4443, 2.4). */
static __always_inline bool may_be_told(const struct packet *pkt)
{
	return pkt->kind == PACKET_TUPLE && !(pkt->flags & PACKET_LATER_FRAGMENT) && !(pkt->tcp_flags & TCP_RST) &&
	       !addr_is_multicast(&pkt->key.saddr) && !addr_is_unspecified(&pkt->key.saddr);
}

/* Returns what the hook is to return. No answer is no harm: the packet is dropped either way. */
__weak __noinline int icmp_reply(struct __sk_buff *ctx, struct packet *pkt)
{
	struct addr from;
	__u32 quote;

	if (!pkt || !may_be_told(pkt))
		return TC_ACT_SHOT;
	if (!reply_source(pkt, &from))
		return TC_ACT_SHOT;
	if (tcp_reset_serves(pkt))
		return tcp_reset(ctx, pkt) ? TC_ACT_SHOT : reply_send(ctx, pkt, &from);
	quote = reply_make_room(ctx, pkt);
	if (!quote || (pkt->family == 4 ? reply4(ctx, pkt, &from, quote) : reply6(ctx, pkt, &from, quote)))
		return TC_ACT_SHOT;
	return reply_send(ctx, pkt, &from);
}

#endif
