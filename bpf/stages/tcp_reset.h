/* tcp_reset: a SYN for a service that has nobody to answer is reset, and so is whatever policy rejects. An ICMP
 * error would do for most SYNs, but a stack that still holds its socket, in the very call that sends the SYN,
 * takes no error and tries again a second later; a reset waits in the socket's backlog. And no ICMP error ends
 * a connection that is established. */
#ifndef BPFNET_STAGES_TCP_RESET_H
#define BPFNET_STAGES_TCP_RESET_H

#include "bpf/lib/checksum.h"
#include "bpf/lib/proto.h"
#include "bpf/stages/rewrite.h"
#include "bpf/verdict.h"

/* A TCP header without options; the kernel's has bit fields where the sum wants bytes. */
struct reset_header {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset; /* of the payload, in the upper half, in words */
	__u8 flags;  /* enum tcp_flags */
	__be16 window;
	__u16 check;
	__be16 urgent;
};
ABI_ASSERT(sizeof(struct reset_header) == 20, "reset_header");

/* Only behind a plain IP header; the caller has an ICMP error for the rest. */
static __always_inline bool tcp_reset_serves(const struct packet *pkt)
{
	bool denied = pkt->reason == DROP_POLICY_EGRESS || pkt->reason == DROP_POLICY_INGRESS;
	bool refused = pkt->reason == DROP_NO_BACKEND || pkt->reason == DROP_NO_SERVICE;

	return pkt->l4_proto == IPPROTO_TCP && (denied || (refused && packet_is_tcp_syn(pkt))) &&
	       pkt->l4_offset == ETH_HLEN + (pkt->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
}

/* Sum of the addresses, which are the same words whichever way they stand, and of the rest of the pseudo
 * header. */
static __always_inline __u64 tcp_pseudo(const struct packet *pkt)
{
	const __u32 *words = pkt->key.saddr.w;
	__u64 sum = bpf_htons(sizeof(struct reset_header)) + bpf_htons(IPPROTO_TCP);

	if (pkt->family == 4)
		return sum + pkt->key.saddr.w[3] + pkt->key.daddr.w[3];
	for (int i = 0; i < 8; i++)
		sum += words[i];
	return sum;
}

/* The IP header of an answer that is as long as it says. */
static __always_inline int reset_ip(struct __sk_buff *ctx, const struct packet *pkt)
{
	if (pkt->family == 4) {
		struct iphdr ip = {
			.version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(sizeof(struct iphdr) + sizeof(struct reset_header)),
			.frag_off = bpf_htons(0x4000),
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = pkt->key.daddr.w[3],
			.daddr = pkt->key.saddr.w[3],
		};
		const __u16 *words = (const void *)&ip;
		__u64 sum = 0;

		for (int i = 0; i < 10; i++)
			sum += words[i];
		ip.check = ~csum_fold16(sum);
		return bpf_skb_store_bytes(ctx, ETH_HLEN, &ip, sizeof(ip), BPF_F_INVALIDATE_HASH);
	}
	struct ipv6hdr ip6 = {
		.version = 6,
		.payload_len = bpf_htons(sizeof(struct reset_header)),
		.nexthdr = IPPROTO_TCP,
		.hop_limit = 64,
	};
	__builtin_memcpy(&ip6.saddr, &pkt->key.daddr, sizeof(ip6.saddr));
	__builtin_memcpy(&ip6.daddr, &pkt->key.saddr, sizeof(ip6.daddr));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &ip6, sizeof(ip6), BPF_F_INVALIDATE_HASH);
}

/* Where the sender takes a reset from (RFC 9293, 3.5.2; RFC 5961): at what it has acknowledged, or else of what
 * it sent. */
static __always_inline void reset_sequence(struct reset_header *tcp)
{
	if (tcp->flags & TCP_ACK) {
		tcp->seq = tcp->ack;
		tcp->ack = 0;
		tcp->flags = TCP_RST;
		return;
	}
	tcp->ack = bpf_htonl(bpf_ntohl(tcp->seq) + 1);
	tcp->seq = 0;
	tcp->flags = TCP_RST | TCP_ACK;
}

/* Makes the packet the reset of itself. 0, or an error. */
__weak __noinline int tcp_reset(struct __sk_buff *ctx, struct packet *pkt)
{
	struct reset_header tcp;
	__u32 offset;
	__u64 sum;

	if (!pkt)
		return -1;
	offset = pkt->l4_offset & PACKET_OFFSET_MASK;
	if (bpf_skb_load_bytes(ctx, offset, &tcp, sizeof(tcp)))
		return -1;
	reset_sequence(&tcp);
	tcp.sport = pkt->key.dport;
	tcp.dport = pkt->key.sport;
	tcp.offset = sizeof(tcp) / 4 << 4;
	tcp.window = 0;
	tcp.urgent = 0;
	sum = tcp_pseudo(pkt) + tcp.sport + tcp.dport + tcp.seq + tcp.ack + bpf_htons(tcp.offset << 8 | tcp.flags);
	tcp.check = ~csum_fold16(sum);
	if (bpf_skb_change_tail(ctx, offset + sizeof(tcp), 0) || reset_ip(ctx, pkt))
		return -1;
	return bpf_skb_store_bytes(ctx, offset, &tcp, sizeof(tcp), 0);
}

#endif
