/* rewrite: the packet leaves as the other tuple of its flow, reversed. Headers are changed in place;
 * transport checksums by the kernel's helper, which knows about checksums that are not finished yet. */
#ifndef BPFNET_STAGES_REWRITE_H
#define BPFNET_STAGES_REWRITE_H

#include <linux/if_ether.h>
#include "bpf/lib/proto.h"
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "bpf/lib/addr.h"
#include "bpf/lib/checksum.h"
#include "bpf/lib/mac.h"
#include "bpf/stages/sctp.h"
#include "bpf/verdict.h"

/* What the rewrite changed, as checksum differences. */
struct rewrite {
	__u64 addresses;
	__u64 ports;
	__u64 hop_limit; /* IPv6 only: nothing else in the header makes up for it */
};

/* Addresses and hop limit; false if the header is not where parse found it. */
static __always_inline bool rewrite_l3(void *data, void *end, const struct packet *pkt,
				       const struct flow *flow, bool routed, struct rewrite *change)
{
	if (pkt->family == 4) {
		struct iphdr *ip = data + ETH_HLEN;
		__u64 header = 0;
		__be16 old;

		if ((void *)(ip + 1) > end)
			return false;
		if (flow->flags & FLOW_TRANSLATED) {
			__be32 saddr = flow->peer.daddr.w[3], daddr = flow->peer.saddr.w[3];

			header = csum_replace32(header, ip->saddr, saddr);
			header = csum_replace32(header, ip->daddr, daddr);
			ip->saddr = saddr;
			ip->daddr = daddr;
			change->addresses = header;
		}
		if (routed) {
			old = *(__be16 *)&ip->ttl;
			ip->ttl--;
			header = csum_replace16(header, old, *(__be16 *)&ip->ttl);
		}
		ip->check = csum_apply(ip->check, header);
	} else {
		struct ipv6hdr *ip6 = data + ETH_HLEN;
		struct addr *saddr, *daddr;
		__be16 old;

		if ((void *)(ip6 + 1) > end)
			return false;
		if (flow->flags & FLOW_TRANSLATED) {
			saddr = (struct addr *)&ip6->saddr;
			daddr = (struct addr *)&ip6->daddr;
			change->addresses = csum_replace_addr(0, saddr, &flow->peer.daddr);
			change->addresses = csum_replace_addr(change->addresses, daddr, &flow->peer.saddr);
			*saddr = flow->peer.daddr;
			*daddr = flow->peer.saddr;
		}
		if (routed) {
			old = *(__be16 *)&ip6->nexthdr;
			ip6->hop_limit--;
			change->hop_limit = csum_replace16(0, old, *(__be16 *)&ip6->nexthdr);
		}
	}
	return true;
}

/* Ports, or the identifier of an echo, which stands 4 bytes into its header. */
static __always_inline bool rewrite_l4(void *data, void *end, const struct packet *pkt,
				       const struct flow *flow, struct rewrite *change)
{
	__be16 *l4 = data + (pkt->l4_offset & PACKET_OFFSET_MASK);

	if (pkt->l4_proto == IPPROTO_ICMP || pkt->l4_proto == IPPROTO_ICMPV6) {
		/* One of the two is zero. */
		__be16 id = flow->peer.sport | flow->peer.dport;

		if ((void *)(l4 + 3) > end)
			return false;
		change->ports = csum_replace16(0, l4[2], id);
		l4[2] = id;
		return true;
	}
	if ((void *)(l4 + 2) > end)
		return false;
	change->ports = csum_replace16(csum_replace16(0, l4[0], flow->peer.dport), l4[1], flow->peer.sport);
	l4[0] = flow->peer.dport;
	l4[1] = flow->peer.sport;
	return true;
}

/* Is the transport checksum one that the sender left to be finished, CHECKSUM_PARTIAL? A program cannot ask,
 * but such a field holds the sum of the pseudo header and nothing else: any other value is a finished one.
 * A finished one has that value by chance once in 65,536 packets, hence "may be". */
static __always_inline bool checksum_may_be_partial(void *data, const struct packet *pkt, __u16 field)
{
	struct iphdr *ip = data + ETH_HLEN;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	__u32 length, header = pkt->l4_offset - ETH_HLEN;
	__u64 sum = bpf_htons(pkt->l4_proto);

	/* GSO packets may be longer than the field can tell: it is zero then. */
	if (pkt->family == 4) {
		length = ip->tot_len ? bpf_ntohs(ip->tot_len) : pkt->length;
		sum += (__u64)pkt->key.saddr.w[3] + pkt->key.daddr.w[3];
	} else {
		length = ip6->payload_len ? bpf_ntohs(ip6->payload_len) + sizeof(*ip6) : pkt->length;
		for (int i = 0; i < 4; i++)
			sum += (__u64)pkt->key.saddr.w[i] + pkt->key.daddr.w[i];
	}
	sum += bpf_htonl(length - header);
	/* Zero has two forms. */
	sum = csum_fold16(sum + (__u16)~field);
	return sum == 0xffff || sum == 0;
}

/* Finished checksums are brought up to date here, which costs a tenth of the kernel's helper. A checksum of
 * zero is none (UDP). False: left to the helper. */
static __always_inline bool rewrite_checksum_inline(void *data, void *end, const struct packet *pkt,
						    const struct rewrite *change)
{
	__u16 *field = data + (pkt->l4_offset & PACKET_OFFSET_MASK);

	if (pkt->l4_proto == IPPROTO_TCP)
		field += 8;
	else if (pkt->l4_proto == IPPROTO_UDP)
		field += 3;
	else
		return false;
	if ((void *)(field + 1) > end || !*field || checksum_may_be_partial(data, pkt, *field))
		return false;
	*field = csum_apply(*field, change->addresses + change->ports);
	if (!*field && pkt->l4_proto == IPPROTO_UDP)
		*field = 0xffff;
	return true;
}

/* Offset and flags of the transport checksum for bpf_l4_csum_replace; 0: the protocol has none that the
 * addresses or ports change. */
static __always_inline __u32 rewrite_checksum_field(const struct packet *pkt, __u64 *flags)
{
	__u32 offset = pkt->l4_offset & PACKET_OFFSET_MASK;

	*flags = 0;
	switch (pkt->l4_proto) {
	case IPPROTO_TCP:
		return offset + 16;
	case IPPROTO_UDP:
		*flags = BPF_F_MARK_MANGLED_0;
		return offset + 6;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return offset + 2;
	}
	return 0;
}

static __always_inline enum verdict rewrite_sctp(struct __sk_buff *ctx, struct packet *pkt,
						 const struct flow *flow)
{
	__be16 before[2] = { pkt->key.sport, pkt->key.dport }, after[2] = { flow->peer.dport, flow->peer.sport };
	__u32 from, to;

	__builtin_memcpy(&from, before, sizeof(from));
	__builtin_memcpy(&to, after, sizeof(to));
	return from == to ? VERDICT_NEXT : sctp_checksum(ctx, pkt, from, to);
}

/* The helper knows what the checksum is. It takes the addresses off CHECKSUM_COMPLETE. */
static __always_inline enum verdict rewrite_checksum(struct __sk_buff *ctx, struct packet *pkt,
						     const struct flow *flow, const struct rewrite *change)
{
	__u32 addresses = csum_fold32(change->addresses), ports = csum_fold32(change->ports);
	__u64 flags;
	__u32 field = rewrite_checksum_field(pkt, &flags);

	if (pkt->l4_proto == IPPROTO_SCTP)
		return rewrite_sctp(ctx, pkt, flow);
	if (!field)
		return VERDICT_NEXT;
	/* IPv4's ICMP checksum does not cover addresses. */
	if (change->addresses && pkt->l4_proto != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(ctx, field, 0, addresses, BPF_F_PSEUDO_HDR | flags))
		return drop(pkt, DROP_REWRITE_FAILED);
	if (change->ports && bpf_l4_csum_replace(ctx, field, 0, ports, flags))
		return drop(pkt, DROP_REWRITE_FAILED);
	return VERDICT_NEXT;
}

/* CHECKSUM_COMPLETE is the sum of the whole packet. What changed in it and was not made up for by another
 * field: the addresses that only IPv4's header checksum covers twice, and IPv6's hop limit. `helped`: the
 * helper has taken the addresses off it, as is right for IPv4 alone. Only a NIC makes such sums: what comes
 * from a stack, a pod's or the host's, is finished, to be finished or none. */
static __always_inline void rewrite_complete(struct __sk_buff *ctx, const struct packet *pkt,
					     const struct rewrite *change, bool transport, bool helped)
{
	__u64 sum = change->hop_limit;

	if (!packet_is_from_wire(pkt))
		return;
	if (pkt->family == 6 && (helped || !transport))
		sum += change->addresses;
	else if (pkt->family == 4 && transport && !helped)
		sum += (__u32)~csum_fold32(change->addresses);
	if (sum)
		bpf_csum_update(ctx, csum_fold32(sum));
}

/* `routed`: the hop limit is taken down by one. The Ethernet header is set unless it is to stay. */
static __always_inline enum verdict rewrite(struct __sk_buff *ctx, struct packet *pkt,
					    const struct flow *flow, bool routed)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct rewrite change = {};
	bool transport, helped;

	if (data + ETH_HLEN > end || !rewrite_l3(data, end, pkt, flow, routed, &change))
		return drop(pkt, DROP_TRUNCATED);
	if (!(pkt->flags & PACKET_KEEP_LINK))
		eth_set(data, &flow->dmac, &flow->smac);
	transport = flow->flags & FLOW_TRANSLATED && !(pkt->flags & PACKET_LATER_FRAGMENT);
	if (transport && !rewrite_l4(data, end, pkt, flow, &change))
		return drop(pkt, DROP_TRUNCATED);
	helped = transport && !rewrite_checksum_inline(data, end, pkt, &change);
	if (helped && rewrite_checksum(ctx, pkt, flow, &change) != VERDICT_NEXT)
		return VERDICT_DROP;
	rewrite_complete(ctx, pkt, &change, transport, helped);
	return VERDICT_NEXT;
}

#endif
