/* ICMP and ICMPv6. The kernel's own <linux/icmp.h> draws in socket headers of the C library. */
#ifndef BPFNET_LIB_ICMP_H
#define BPFNET_LIB_ICMP_H

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

#endif
