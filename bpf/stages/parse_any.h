/* parse, the cold part: whatever parse.h left, read by copy so that the packet need not be linear. */
#ifndef BPFNET_STAGES_PARSE_ANY_H
#define BPFNET_STAGES_PARSE_ANY_H

#include "bpf/lib/icmp.h"
#include "bpf/stages/fragment.h"
#include "bpf/stages/parse.h"
#include "bpf/verdict.h"

enum { IPV6_HEADERS_MAX = 8 };

static __always_inline enum verdict foreign(struct packet *pkt, enum drop_reason reason)
{
	pkt->kind = PACKET_FOREIGN;
	pkt->reason = reason;
	return VERDICT_NEXT;
}

/* One IP header, of the packet (inner false) or of the packet inside an ICMP error, which is cut short and
 * whose lengths therefore are not held against it. Advances *offset to the transport header. */
struct ip_header {
	__u32 offset; /* in: of the IP header, out: of what follows it and its extensions */
	__u32 end;    /* out: where the IP packet ends, from the frame's start */
	__be32 id;
	__u16 fragment; /* byte offset of a later fragment */
	__u8 proto;
	__u8 fragmented;
};

static __always_inline enum verdict read_ipv4(struct __sk_buff *ctx, struct packet *pkt, struct ip_header *h,
					      bool inner)
{
	struct iphdr ip;
	__u32 total;

	if (bpf_skb_load_bytes(ctx, h->offset, &ip, sizeof(ip)))
		return drop(pkt, DROP_TRUNCATED);
	if (ip.version != 4 || ip.ihl < 5)
		return drop(pkt, DROP_BAD_HEADER);
	total = bpf_ntohs(ip.tot_len);
	/* GSO packets may be longer than the field can tell. */
	if (!total && ctx->gso_size)
		total = pkt->length;
	if (total < ip.ihl * 4u)
		return drop(pkt, DROP_BAD_HEADER);
	if (!inner && total > pkt->length)
		return drop(pkt, DROP_TRUNCATED);
	addr_from_v4(&pkt->key.saddr, ip.saddr);
	addr_from_v4(&pkt->key.daddr, ip.daddr);
	h->end = h->offset + total;
	h->offset += ip.ihl * 4u;
	h->id = ip.id;
	h->fragment = (bpf_ntohs(ip.frag_off) & 0x1fff) * 8;
	h->fragmented = !!(ip.frag_off & bpf_htons(0x3fff));
	h->proto = ip.protocol;
	return VERDICT_NEXT;
}

static __always_inline enum verdict read_ipv6(struct __sk_buff *ctx, struct packet *pkt, struct ip_header *h,
					      bool inner)
{
	struct ipv6hdr ip6;
	__u32 total;

	if (bpf_skb_load_bytes(ctx, h->offset, &ip6, sizeof(ip6)))
		return drop(pkt, DROP_TRUNCATED);
	if (ip6.version != 6)
		return drop(pkt, DROP_BAD_HEADER);
	total = sizeof(ip6) + bpf_ntohs(ip6.payload_len);
	if (!ip6.payload_len && ctx->gso_size)
		total = pkt->length;
	if (!inner && total > pkt->length)
		return drop(pkt, DROP_TRUNCATED);
	__builtin_memcpy(&pkt->key.saddr, &ip6.saddr, sizeof(struct addr));
	__builtin_memcpy(&pkt->key.daddr, &ip6.daddr, sizeof(struct addr));
	if (addr_is_v4(&pkt->key.saddr) || addr_is_v4(&pkt->key.daddr))
		return drop(pkt, DROP_BAD_HEADER);
	h->end = h->offset + total;
	h->offset += sizeof(ip6);
	h->proto = ip6.nexthdr;
	for (int i = 0; i < IPV6_HEADERS_MAX; i++) {
		struct {
			__u8 next;
			__u8 length; /* in 8 bytes, less the first 8; reserved in a fragment header */
			__be16 fragment;
			__be32 id;
		} ext;

		if (h->proto != IPPROTO_HOPOPTS && h->proto != IPPROTO_ROUTING &&
		    h->proto != IPPROTO_DSTOPTS && h->proto != IPPROTO_FRAGMENT)
			return VERDICT_NEXT;
		if (bpf_skb_load_bytes(ctx, h->offset, &ext, sizeof(ext)))
			return drop(pkt, DROP_TRUNCATED);
		if (h->proto == IPPROTO_FRAGMENT) {
			h->id = ext.id;
			h->fragment = bpf_ntohs(ext.fragment) & 0xfff8;
			h->fragmented = !!(ext.fragment & bpf_htons(0xfff9));
			h->offset += sizeof(ext);
		} else {
			h->offset += (ext.length + 1) * 8;
		}
		h->proto = ext.next;
		if (h->offset > h->end)
			return drop(pkt, DROP_TRUNCATED);
		if (h->fragment)
			return VERDICT_NEXT;
	}
	return drop(pkt, DROP_BAD_HEADER);
}

/* Ports of TCP, UDP and SCTP. Of a packet inside an error only the first 8 bytes are sure to be there. */
static __always_inline enum verdict read_ports(struct __sk_buff *ctx, struct packet *pkt,
					       const struct ip_header *h, bool inner)
{
	__u32 need = inner ? 4 : h->proto == IPPROTO_TCP ? 20 : h->proto == IPPROTO_UDP ? 8 : 12;
	__u8 header[16];

	if (!inner && h->offset + need > h->end)
		return drop(pkt, DROP_TRUNCATED);
	if (h->proto != IPPROTO_TCP || inner) {
		if (bpf_skb_load_bytes(ctx, h->offset, header, 8))
			return drop(pkt, DROP_TRUNCATED);
		if (!inner && h->proto == IPPROTO_UDP && bpf_ntohs(*(__be16 *)(header + 4)) < 8)
			return drop(pkt, DROP_BAD_HEADER);
		if (!inner && h->proto == IPPROTO_UDP && !h->fragmented &&
		    bpf_ntohs(*(__be16 *)(header + 4)) > h->end - h->offset)
			return drop(pkt, DROP_TRUNCATED);
	} else {
		if (bpf_skb_load_bytes(ctx, h->offset, header, sizeof(header)))
			return drop(pkt, DROP_TRUNCATED);
		if (header[12] >> 4 < 5)
			return drop(pkt, DROP_BAD_HEADER);
		if (h->offset + (header[12] >> 4) * 4 > h->end)
			return drop(pkt, DROP_TRUNCATED);
		pkt->tcp_flags = header[13];
		if (!packet_is_tcp_syn(pkt))
			pkt->flags |= PACKET_MIDSTREAM;
	}
	pkt->key.sport = *(__be16 *)header;
	pkt->key.dport = *(__be16 *)(header + 2);
	return VERDICT_NEXT;
}

/* Echo becomes a tuple; errors are left to read_error(). The types of both families fit one number space
 * by adding 256 for ICMPv6. */
static __always_inline enum verdict read_icmp(struct __sk_buff *ctx, struct packet *pkt,
					      const struct ip_header *h, bool inner)
{
	struct icmp_header icmp;

	if ((!inner && h->offset + sizeof(icmp) > h->end) ||
	    bpf_skb_load_bytes(ctx, h->offset, &icmp, sizeof(icmp)))
		return drop(pkt, DROP_TRUNCATED);
	switch (icmp.type + (h->proto == IPPROTO_ICMPV6 ? 256 : 0)) {
	case ICMP_ECHO:
	case 256 + ICMPV6_ECHO_REQUEST:
		pkt->key.sport = icmp.echo.id;
		return VERDICT_NEXT;
	case ICMP_ECHOREPLY:
	case 256 + ICMPV6_ECHO_REPLY:
		pkt->key.dport = icmp.echo.id;
		pkt->flags |= PACKET_MIDSTREAM;
		return VERDICT_NEXT;
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
	case 256 + ICMPV6_DEST_UNREACH:
	case 256 + ICMPV6_PKT_TOOBIG:
	case 256 + ICMPV6_TIME_EXCEED:
	case 256 + ICMPV6_PARAMPROB:
		if (inner)
			return foreign(pkt, DROP_ICMP_UNRELATED);
		pkt->kind = PACKET_ERROR;
		return VERDICT_NEXT;
	}
	if (h->proto == IPPROTO_ICMPV6 && icmp.type >= ND_FIRST && icmp.type <= ND_LAST) {
		pkt->kind = PACKET_ND;
		return VERDICT_NEXT;
	}
	return foreign(pkt, DROP_UNKNOWN_L4);
}

static __always_inline enum verdict read_transport(struct __sk_buff *ctx, struct packet *pkt,
						   const struct ip_header *h, bool inner)
{
	pkt->key.proto = h->proto;
	if (h->fragment)
		return fragment_later(pkt, h->id);
	if (h->proto == IPPROTO_TCP || h->proto == IPPROTO_UDP || h->proto == IPPROTO_SCTP)
		return read_ports(ctx, pkt, h, inner);
	if (h->proto == (pkt->family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return read_icmp(ctx, pkt, h, inner);
	return foreign(pkt, DROP_UNKNOWN_L4);
}

/* The packet inside an ICMP error, which begins 8 bytes behind the ICMP header. The error travels against
 * it: its tuple, reversed, is the key. A global function, to be verified once and by itself. */
__weak __noinline int parse_inner(struct __sk_buff *ctx, struct packet *pkt)
{
	struct ip_header h = {};
	enum verdict verdict;
	struct flow_key key;

	if (!pkt)
		return VERDICT_DROP;
	h.offset = (pkt->l4_offset & PACKET_OFFSET_MASK) + sizeof(struct icmp_header);
	RUN(pkt->family == 6 ? read_ipv6(ctx, pkt, &h, true) : read_ipv4(ctx, pkt, &h, true));
	if (h.fragment || h.offset > PACKET_OFFSET_MASK)
		return foreign(pkt, DROP_ICMP_UNRELATED);
	RUN(read_transport(ctx, pkt, &h, true));
	pkt->flags = 0;
	pkt->inner_l4_offset = h.offset;
	key = pkt->key;
	key_reverse(&pkt->key, &key);
out:
	return verdict;
}

__weak __noinline int parse_any(struct __sk_buff *ctx, struct packet *pkt)
{
	struct ip_header h = { .offset = ETH_HLEN };
	enum verdict verdict;
	struct ethhdr eth;
	__u8 hook;

	if (!pkt)
		return VERDICT_DROP;
	hook = pkt->hook;
	__builtin_memset(pkt, 0, sizeof(*pkt));
	pkt->hook = hook;
	if (bpf_skb_load_bytes(ctx, 0, &eth, sizeof(eth)))
		return drop(pkt, DROP_TRUNCATED);
	pkt->length = ctx->len - ETH_HLEN;
	if (ctx->vlan_present)
		return foreign(pkt, DROP_UNKNOWN_L3);
	if (eth.h_proto == bpf_htons(ETH_P_ARP)) {
		pkt->kind = PACKET_ARP;
		return VERDICT_NEXT;
	}
	if (eth.h_proto == bpf_htons(ETH_P_IP)) {
		pkt->family = 4;
		RUN(read_ipv4(ctx, pkt, &h, false));
	} else if (eth.h_proto == bpf_htons(ETH_P_IPV6)) {
		pkt->family = 6;
		RUN(read_ipv6(ctx, pkt, &h, false));
	} else {
		return foreign(pkt, DROP_UNKNOWN_L3);
	}
	if (h.offset > PACKET_OFFSET_MASK)
		return drop(pkt, DROP_BAD_HEADER);
	pkt->l4_proto = h.proto;
	pkt->l4_offset = h.offset;
	if (h.fragmented)
		pkt->flags |= PACKET_IS_FRAGMENT;
	RUN(read_transport(ctx, pkt, &h, false));
	if (h.fragmented && !h.fragment && pkt->kind == PACKET_TUPLE)
		RUN(fragment_first(pkt, h.id));
	if (pkt->kind == PACKET_ERROR)
		RUN(parse_inner(ctx, pkt));
	/* Later stages write the headers in place. */
	if (pkt->kind == PACKET_TUPLE &&
	    bpf_skb_pull_data(ctx, h.offset + (pkt->flags & PACKET_LATER_FRAGMENT ? 0 : 8)))
		return drop(pkt, DROP_TRUNCATED);
out:
	return verdict;
}

/* The stage, as hooks run it. */
static __always_inline enum verdict parse(struct __sk_buff *ctx, struct packet *pkt)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (parse_common(data, end, ctx->len - ETH_HLEN, pkt) && !ctx->vlan_present)
		return VERDICT_NEXT;
	return parse_any(ctx, pkt);
}

#endif
