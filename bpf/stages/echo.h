/* echo: a request to the address of a live service is answered here, since nobody else has that address. The
 * packet itself goes back; no flow is made. */
#ifndef BPFNET_STAGES_ECHO_H
#define BPFNET_STAGES_ECHO_H

#include "bpf/stages/icmp_reply.h"
#include "bpf/verdict.h"

static __always_inline long echo_ip4(struct __sk_buff *ctx)
{
	struct iphdr ip;
	__be16 hops;
	__be32 addr;

	if (bpf_skb_load_bytes(ctx, ETH_HLEN, &ip, sizeof(ip)))
		return -1;
	addr = ip.saddr;
	ip.saddr = ip.daddr;
	ip.daddr = addr;
	hops = *(__be16 *)&ip.ttl;
	ip.ttl = REPLY_HOPS;
	ip.check = csum_apply(ip.check, csum_replace16(0, hops, *(__be16 *)&ip.ttl));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &ip, sizeof(ip), BPF_F_INVALIDATE_HASH);
}

static __always_inline long echo_ip6(struct __sk_buff *ctx)
{
	struct ipv6hdr ip6;
	struct in6_addr addr;

	if (bpf_skb_load_bytes(ctx, ETH_HLEN, &ip6, sizeof(ip6)))
		return -1;
	addr = ip6.saddr;
	ip6.saddr = ip6.daddr;
	ip6.daddr = addr;
	ip6.hop_limit = REPLY_HOPS;
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &ip6, sizeof(ip6), BPF_F_INVALIDATE_HASH);
}

/* Addresses that change places leave the sum as it is: only the type is new. A later fragment has none. */
static __always_inline long echo_icmp(struct __sk_buff *ctx, const struct packet *pkt)
{
	__u32 offset = pkt->l4_offset & PACKET_OFFSET_MASK;
	__be16 from, to;
	__u8 type[2];

	if (pkt->flags & PACKET_LATER_FRAGMENT)
		return 0;
	if (bpf_skb_load_bytes(ctx, offset, type, sizeof(type)))
		return -1;
	__builtin_memcpy(&from, type, sizeof(from));
	type[0] = pkt->family == 4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY;
	__builtin_memcpy(&to, type, sizeof(to));
	if (icmp_checksum(ctx, offset, csum_replace16(0, from, to)))
		return -1;
	return bpf_skb_store_bytes(ctx, offset, type, sizeof(type), 0);
}

__weak __noinline int echo_answer(struct __sk_buff *ctx, struct packet *pkt)
{
	struct addr from;

	if (!pkt)
		return VERDICT_DROP;
	from = pkt->key.daddr;
	if ((pkt->family == 4 ? echo_ip4(ctx) : echo_ip6(ctx)) || echo_icmp(ctx, pkt))
		return drop(pkt, DROP_REWRITE_FAILED);
	pkt->out_ifindex = ctx->ifindex;
	pkt->code = reply_send(ctx, pkt, &from);
	return VERDICT_REPLY;
}

#endif
