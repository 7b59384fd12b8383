/* Frontends: is V:vp an address that services are reached by? */
#ifndef BPFNET_STAGES_FRONTEND_H
#define BPFNET_STAGES_FRONTEND_H

#include "bpf/lib/identity.h"
#include "bpf/packet.h"

static __always_inline bool proto_has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

/* 0.0.0.0 or :: in place of the address: every local one. */
static __always_inline void addr_any_local(struct addr *addr)
{
	if (addr_is_v4(addr))
		addr->w[3] = 0;
	else
		__builtin_memset(addr, 0, sizeof(*addr));
}

/* A block of published ports. */
static __always_inline struct frontend *frontend_range_find(const struct flow_key *tuple, bool any_local)
{
	struct frontend_range_key key = {
		.prefixlen = FRONTEND_RANGE_BITS + 16,
		.addr = tuple->daddr,
		.proto = tuple->proto,
		.scope = SCOPE_ADDRESS,
		.net = tuple->net,
		.port = tuple->dport,
	};
	struct frontend *frontend = bpf_map_lookup_elem(&frontend_ranges, &key);

	if (frontend || !any_local)
		return frontend;
	key.scope = SCOPE_ANY_LOCAL;
	addr_any_local(&key.addr);
	return bpf_map_lookup_elem(&frontend_ranges, &key);
}

/* The frontend of V:vp: its exact address first, else any local address that is open for NodePorts; last the
 * blocks of ports, which only a node publishes. `flags` are enum address_flags of V. */
static __always_inline struct frontend *frontend_find(const struct flow_key *tuple, __u16 flags)
{
	bool any_local = flags & ADDRESS_NODE_PORT;
	struct frontend_key key = {
		.addr = tuple->daddr,
		.port = tuple->dport,
		.proto = tuple->proto,
		.scope = SCOPE_ADDRESS,
		.net = tuple->net,
	};
	struct frontend *frontend = bpf_map_lookup_elem(&frontends, &key);

	if (frontend || !(flags & ADDRESS_LOCAL_NODE))
		return frontend;
	if (any_local) {
		key.scope = SCOPE_ANY_LOCAL;
		addr_any_local(&key.addr);
		frontend = bpf_map_lookup_elem(&frontends, &key);
	}
	return frontend ? frontend : frontend_range_find(tuple, any_local);
}

static __always_inline bool is_frontend(const struct flow_key *tuple, __u16 flags)
{
	return proto_has_ports(tuple->proto) && frontend_find(tuple, flags);
}

/* What marks V as an address of a live service (S32). */
static __always_inline struct frontend *live_address_find(const struct flow_key *tuple)
{
	struct frontend_key key = { .addr = tuple->daddr, .net = tuple->net };

	return bpf_map_lookup_elem(&frontends, &key);
}

/* An echo request, or a later fragment of one. */
static __always_inline bool is_echo_request(const struct packet *pkt)
{
	if (pkt->key.proto != IPPROTO_ICMP && pkt->key.proto != IPPROTO_ICMPV6)
		return false;
	return !(pkt->flags & PACKET_MIDSTREAM) || (pkt->flags & PACKET_LATER_FRAGMENT && !pkt->key.dport);
}

/* Of a packet for an address that is nobody's but a service's, and for no frontend of it: is there something
 * to be said about it? */
static __always_inline bool concerns_live_address(const struct packet *pkt)
{
	struct frontend *live = live_address_find(&pkt->key);

	return live && (live->flags & FRONTEND_CLUSTER_IP || is_echo_request(pkt));
}

#endif
