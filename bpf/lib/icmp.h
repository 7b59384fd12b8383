/* ICMP and ICMPv6. The kernel's own <linux/icmp.h> draws in socket headers of the C library. */
#ifndef BPFNET_LIB_ICMP_H
#define BPFNET_LIB_ICMP_H

#include <linux/bpf.h>
#include <stddef.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/checksum.h"
#include "maps/abi/base.h"

enum icmp_type {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

enum icmp_code {
	ICMP_PORT_UNREACH = 3,
	ICMP_FRAG_NEEDED = 4,
	ICMP_ADMIN_PROHIBITED = 13,
};

enum icmp6_type {
	ICMPV6_DEST_UNREACH = 1,
	ICMPV6_PKT_TOOBIG = 2,
	ICMPV6_TIME_EXCEED = 3,
	ICMPV6_PARAMPROB = 4,
	ICMPV6_ECHO_REQUEST = 128,
	ICMPV6_ECHO_REPLY = 129,
	ND_FIRST = 133, /* router solicitation ... */
	ND_SOLICIT = 135,
	ND_ADVERTISE = 136,
	ND_LAST = 137, /* ... redirect */
};

enum icmp6_code {
	ICMPV6_ADMIN_PROHIBITED = 1,
	ICMPV6_PORT_UNREACH = 4,
};

/* The 8 bytes in front of an echo's data and of the packet inside an error. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 check;
	union {
		struct {
			__be16 id;
			__be16 sequence;
		} echo;
		struct {
			__be16 unused;
			__be16 mtu; /* IPv4 */
		} frag;
		__be32 mtu6; /* IPv6 */
	};
};
ABI_ASSERT(sizeof(struct icmp_header) == 8, "icmp_header");

/* Brings the checksum of the message at `message` up to date. Whoever sends ICMP sums it himself: it is whole, also in
 * what was made of a packet whose transport checksum its device is still to finish (CHECKSUM_PARTIAL), for which
 * bpf_l4_csum_replace() would leave it as it is. 0, or an error. */
static __always_inline long icmp_checksum(struct __sk_buff *ctx, __u32 message, __u64 change)
{
	__u32 field = message + offsetof(struct icmp_header, check);
	__u16 check;

	if (bpf_skb_load_bytes(ctx, field, &check, sizeof(check)))
		return -1;
	check = csum_apply(check, change);
	return bpf_skb_store_bytes(ctx, field, &check, sizeof(check), 0);
}

#endif
