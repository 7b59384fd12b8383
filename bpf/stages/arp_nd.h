/* arp_nd: a pod's questions for link addresses. Whatever it asks for, our side of its veth is the next hop;
 * only its own addresses are left alone, and probes for duplicates. */
#ifndef BPFNET_STAGES_ARP_ND_H
#define BPFNET_STAGES_ARP_ND_H

#include <linux/if_ether.h>
#include "bpf/lib/proto.h"
#include <linux/ipv6.h>
#include <stddef.h>

#include "bpf/lib/identity.h"
#include "bpf/lib/checksum.h"
#include "bpf/lib/icmp.h"
#include "bpf/lib/mac.h"
#include "bpf/stages/deliver.h"
#include "bpf/verdict.h"

enum {
	ND_OPTION_TARGET = 2,
	ARP_ETHERNET = 1,
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
};

struct arp_packet {
	struct ethhdr eth;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	struct mac sender_mac;
	__u8 sender_ip[4];
	struct mac target_mac;
	__u8 target_ip[4];
} __attribute__((packed));

struct nd_packet {
	struct ethhdr eth;
	struct ipv6hdr ip6;
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 flags;
	struct addr target;
	__u8 option;
	__u8 option_length;
	struct mac mac;
} __attribute__((packed));

/* Back out of the device it came from. */
static __always_inline enum verdict answer(struct __sk_buff *ctx, struct packet *pkt)
{
	mark_ours(ctx);
	pkt->out_ifindex = ctx->ifindex;
	pkt->code = bpf_redirect(ctx->ifindex, 0);
	return VERDICT_REPLY;
}

static __always_inline bool is_own_address(const struct addr *addr, __u16 endpoint)
{
	struct address_info *info = address_find(addr, 0);

	return info && info->flags & ADDRESS_LOCAL_POD && info->endpoint == endpoint;
}

static __always_inline enum verdict answer_arp(struct __sk_buff *ctx, struct packet *pkt, __u16 own,
					       const struct mac *mac)
{
	struct arp_packet arp;
	struct addr target;
	__u8 asked[4];
	__be32 ip;

	if (bpf_skb_load_bytes(ctx, 0, &arp, sizeof(arp)))
		return drop(pkt, DROP_TRUNCATED);
	if (arp.hardware != bpf_htons(ARP_ETHERNET) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_length != 6 || arp.protocol_length != 4)
		return drop(pkt, DROP_BAD_HEADER);
	__builtin_memcpy(&ip, arp.sender_ip, 4);
	if (arp.operation != bpf_htons(ARP_REQUEST) || !ip)
		return pass(pkt);
	__builtin_memcpy(&ip, arp.target_ip, 4);
	addr_from_v4(&target, ip);
	if (is_own_address(&target, own))
		return pass(pkt);
	__builtin_memcpy(asked, arp.target_ip, 4);
	arp.operation = bpf_htons(ARP_REPLY);
	arp.target_mac = arp.sender_mac;
	__builtin_memcpy(arp.target_ip, arp.sender_ip, 4);
	arp.sender_mac = *mac;
	__builtin_memcpy(arp.sender_ip, asked, 4);
	eth_set(&arp.eth, &arp.target_mac, mac);
	if (bpf_skb_store_bytes(ctx, 0, &arp, sizeof(arp), 0))
		return drop(pkt, DROP_REWRITE_FAILED);
	return answer(ctx, pkt);
}

/* Over the pseudo header and the 32 bytes of an advertisement. */
static __always_inline __u16 nd_checksum(const struct nd_packet *nd)
{
	__u64 sum = bpf_htons(sizeof(*nd) - ETH_HLEN - sizeof(nd->ip6)) + bpf_htons(IPPROTO_ICMPV6);
	const __u16 *words = (const void *)&nd->ip6.saddr;

	/* Addresses and message stand in one piece. */
	for (__u32 i = 0; i < (sizeof(*nd) - offsetof(struct nd_packet, ip6.saddr)) / 2; i++)
		sum += words[i];
	return ~csum_fold16(sum);
}

static __always_inline enum verdict answer_nd(struct __sk_buff *ctx, struct packet *pkt, __u16 own,
					      const struct mac *mac)
{
	struct nd_packet nd;
	struct addr target;
	struct mac asker;

	__builtin_memset(&nd, 0, sizeof(nd));
	if (bpf_skb_load_bytes(ctx, 0, &nd, offsetof(struct nd_packet, flags)))
		return drop(pkt, DROP_TRUNCATED);
	if (nd.type != ND_SOLICIT)
		return pass(pkt);
	if (bpf_skb_load_bytes(ctx, 0, &nd, offsetof(struct nd_packet, option)))
		return drop(pkt, DROP_TRUNCATED);
	if (nd.ip6.nexthdr != IPPROTO_ICMPV6 || nd.ip6.hop_limit != 255 || nd.code)
		return drop(pkt, DROP_BAD_HEADER);
	target = nd.target;
	if (addr_is_unspecified(&pkt->key.saddr) || is_own_address(&target, own))
		return pass(pkt);
	if (ctx->len != sizeof(nd) && bpf_skb_change_tail(ctx, sizeof(nd), 0))
		return drop(pkt, DROP_REWRITE_FAILED);
	__builtin_memcpy(&asker, nd.eth.h_source, sizeof(asker));
	eth_set(&nd.eth, &asker, mac);
	nd.ip6.payload_len = bpf_htons(sizeof(nd) - ETH_HLEN - sizeof(nd.ip6));
	nd.ip6.daddr = nd.ip6.saddr;
	__builtin_memcpy(&nd.ip6.saddr, &nd.target, sizeof(nd.target));
	nd.type = ND_ADVERTISE;
	nd.flags = bpf_htonl(0xe0000000); /* router, solicited, override */
	nd.option = ND_OPTION_TARGET;
	nd.option_length = 1;
	nd.mac = *mac;
	nd.check = 0;
	nd.check = nd_checksum(&nd);
	if (bpf_skb_store_bytes(ctx, 0, &nd, sizeof(nd), BPF_F_INVALIDATE_HASH))
		return drop(pkt, DROP_REWRITE_FAILED);
	return answer(ctx, pkt);
}

__weak __noinline int answer_neighbour(struct __sk_buff *ctx, struct packet *pkt)
{
	__u32 ifindex = ctx->ifindex;
	struct interface *interface;
	struct mac mac;

	if (!pkt)
		return VERDICT_DROP;
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface || interface->kind != INTERFACE_POD)
		return drop(pkt, DROP_NOT_CONFIGURED);
	pkt->src_endpoint = interface->endpoint;
	mac = interface->mac;
	if (pkt->kind == PACKET_ARP)
		return answer_arp(ctx, pkt, interface->endpoint, &mac);
	return answer_nd(ctx, pkt, interface->endpoint, &mac);
}

/* The stage. */
static __always_inline enum verdict arp_nd(struct __sk_buff *ctx, struct packet *pkt)
{
	if (pkt->kind != PACKET_ARP && pkt->kind != PACKET_ND)
		return VERDICT_NEXT;
	return answer_neighbour(ctx, pkt);
}

#endif
