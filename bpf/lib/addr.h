/* Addresses: 16 bytes, IPv4 as v4-mapped. */
#ifndef BPFNET_LIB_ADDR_H
#define BPFNET_LIB_ADDR_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps/abi/base.h"
#include "maps/abi/flow.h"

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

static __always_inline bool addr_is_zero(const struct addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* True for v4-mapped addresses, which is how IPv4 is kept everywhere but on the wire. */
static __always_inline bool addr_is_v4(const struct addr *a)
{
	return !(a->w[0] | a->w[1]) && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline void addr_from_v4(struct addr *a, __be32 ip)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = ip;
}

static __always_inline bool addr_is_loopback(const struct addr *a)
{
	if (addr_is_v4(a))
		return (bpf_ntohl(a->w[3]) >> 24) == 127;
	return !(a->w[0] | a->w[1] | a->w[2]) && a->w[3] == bpf_htonl(1);
}

/* 224.0.0.0/4, 255.255.255.255 and ff00::/8. */
static __always_inline bool addr_is_multicast(const struct addr *a)
{
	if (addr_is_v4(a))
		return (bpf_ntohl(a->w[3]) >> 28) == 0xe || a->w[3] == (__be32)~0;
	return (bpf_ntohl(a->w[0]) >> 24) == 0xff;
}

/* 0.0.0.0 or ::. */
static __always_inline bool addr_is_unspecified(const struct addr *a)
{
	return addr_is_zero(a) || (addr_is_v4(a) && !a->w[3]);
}

/* The tuple of a packet that travels the other way. */
static __always_inline void key_reverse(struct flow_key *out, const struct flow_key *in)
{
	out->saddr = in->daddr;
	out->daddr = in->saddr;
	out->sport = in->dport;
	out->dport = in->sport;
	out->proto = in->proto;
	out->pad = 0;
	out->net = in->net;
}

#endif
