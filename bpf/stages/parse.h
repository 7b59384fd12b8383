/* parse: headers to tuple. The common case, TCP or UDP behind a plain IP header in the linear part, is read
 * here; everything else (options, extension headers, fragments, ICMP, ARP, errors) by parse_any.h. */
#ifndef BPFNET_STAGES_PARSE_H
#define BPFNET_STAGES_PARSE_H

#include <linux/if_ether.h>
#include "bpf/lib/proto.h"
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/lib/addr.h"
#include "bpf/packet.h"

/* Ports and TCP flags; false when the header is not all there or contradicts itself. */
static __always_inline bool parse_ports(void *l4, void *end, __u32 room, struct packet *pkt)
{
	if (pkt->key.proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > end || room < sizeof(*tcp) || tcp->doff < 5 || tcp->doff * 4u > room)
			return false;
		pkt->key.sport = tcp->source;
		pkt->key.dport = tcp->dest;
		pkt->tcp_flags = ((__u8 *)tcp)[13];
		if (!packet_is_tcp_syn(pkt))
			pkt->flags |= PACKET_MIDSTREAM;
		return true;
	}
	if (pkt->key.proto == IPPROTO_UDP) {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) < sizeof(*udp) ||
		    bpf_ntohs(udp->len) > room)
			return false;
		pkt->key.sport = udp->source;
		pkt->key.dport = udp->dest;
		return true;
	}
	return false;
}

static __always_inline bool parse_ipv4(void *data, void *end, struct packet *pkt)
{
	struct iphdr *ip = data + ETH_HLEN;
	__u32 total;

	if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(0x3fff))
		return false;
	total = bpf_ntohs(ip->tot_len);
	if (total < sizeof(*ip) || total > pkt->length)
		return false;
	addr_from_v4(&pkt->key.saddr, ip->saddr);
	addr_from_v4(&pkt->key.daddr, ip->daddr);
	pkt->family = 4;
	pkt->key.proto = pkt->l4_proto = ip->protocol;
	pkt->l4_offset = ETH_HLEN + sizeof(*ip);
	return parse_ports(ip + 1, end, total - sizeof(*ip), pkt);
}

static __always_inline bool parse_ipv6(void *data, void *end, struct packet *pkt)
{
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	__u32 room;

	if ((void *)(ip6 + 1) > end || ip6->version != 6)
		return false;
	room = bpf_ntohs(ip6->payload_len);
	if (room + sizeof(*ip6) > pkt->length)
		return false;
	__builtin_memcpy(&pkt->key.saddr, &ip6->saddr, sizeof(struct addr));
	__builtin_memcpy(&pkt->key.daddr, &ip6->daddr, sizeof(struct addr));
	/* On the wire these would pass for IPv4 flows. */
	if (addr_is_v4(&pkt->key.saddr) || addr_is_v4(&pkt->key.daddr))
		return false;
	pkt->family = 6;
	pkt->key.proto = pkt->l4_proto = ip6->nexthdr;
	pkt->l4_offset = ETH_HLEN + sizeof(*ip6);
	return parse_ports(ip6 + 1, end, room, pkt);
}

/* False: not the common case, and `pkt` is to be read afresh. `length` counts L3 bytes. */
static __always_inline bool parse_common(void *data, void *end, __u32 length, struct packet *pkt)
{
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return false;
	pkt->length = length;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(data, end, pkt);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(data, end, pkt);
	return false;
}

#endif
