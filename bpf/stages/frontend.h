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

/* Found and lost so often in a row is nothing but a stray writer. */
enum { FRONTEND_TRIES = 3 };

/* The value of this key as it stood at one instant. One that never is whole has service 0: nobody may use it. */
static __always_inline bool frontend_read(const struct frontend_key *key, struct frontend *copy)
{
	struct frontend *found;

	for (int i = 0; i < FRONTEND_TRIES; i++) {
		found = bpf_map_lookup_elem(&frontends, key);
		if (!found)
			return false;
		*copy = *found;
		barrier(); /* what is judged is the copy */
		if (copy->seal == frontend_seal(key, copy))
			return true;
	}
	__builtin_memset(copy, 0, sizeof(*copy));
	return true;
}

/* A block of published ports. */
static __always_inline bool frontend_range_read(const struct flow_key *tuple, bool any_local, struct frontend *copy)
{
	struct frontend_range_key key = {
		.prefixlen = FRONTEND_RANGE_BITS + 16,
		.addr = tuple->daddr,
		.proto = tuple->proto,
		.scope = SCOPE_ADDRESS,
		.net = tuple->net,
		.port = tuple->dport,
	};
	struct frontend *found = bpf_map_lookup_elem(&frontend_ranges, &key);

	if (!found && any_local) {
		key.scope = SCOPE_ANY_LOCAL;
		addr_any_local(&key.addr);
		found = bpf_map_lookup_elem(&frontend_ranges, &key);
	}
	if (found)
		*copy = *found;
	return found;
}

/* The frontend of V:vp: its exact address first, else any local address that is open for NodePorts; last the
 * blocks of ports, which only a node publishes. `flags` are enum address_flags of V. */
static __always_inline bool frontend_find(const struct flow_key *tuple, __u16 flags, struct frontend *frontend)
{
	bool any_local = flags & ADDRESS_NODE_PORT;
	struct frontend_key key = {
		.addr = tuple->daddr,
		.port = tuple->dport,
		.proto = tuple->proto,
		.scope = SCOPE_ADDRESS,
		.net = tuple->net,
	};

	if (frontend_read(&key, frontend))
		return true;
	if (!(flags & ADDRESS_LOCAL_NODE))
		return false;
	if (any_local) {
		key.scope = SCOPE_ANY_LOCAL;
		addr_any_local(&key.addr);
		if (frontend_read(&key, frontend))
			return true;
	}
	return frontend_range_read(tuple, any_local, frontend);
}

static __always_inline bool is_frontend(const struct flow_key *tuple, __u16 flags)
{
	struct frontend frontend;

	return proto_has_ports(tuple->proto) && frontend_find(tuple, flags, &frontend);
}

/* A new flow of the host's own from a port that is published. Answers to a socket that is not connected cannot be told
 * from new traffic of the port but by this flow; of TCP the socket tells, see answers_host. */
static __always_inline bool leaves_published_port(const struct packet *pkt)
{
	struct flow_key back;
	__u16 flags;

	if (pkt->key.proto == IPPROTO_TCP || !proto_has_ports(pkt->key.proto) || addr_is_multicast(&pkt->key.daddr))
		return false;
	key_reverse(&back, &pkt->key);
	flags = address_flags_find(&back.daddr, back.net);
	return flags & ADDRESS_LOCAL_NODE && is_frontend(&back, flags) && !bpf_map_lookup_elem(&flows, &back);
}

/* Has V:vp become a service that has backends, be they none for clients here (S31), and not this one? `frontend`
 * is room for it. */
static __always_inline bool passed_to_another(const struct flow_key *tuple, __u32 service,
					      struct frontend *frontend)
{
	__u16 flags = address_flags_find(&tuple->daddr, tuple->net);

	if (flags & ADDRESS_POD || !frontend_find(tuple, flags, frontend))
		return false;
	return frontend->service && frontend->service != service &&
	       (frontend->count || frontend->ext_count ||
		frontend->flags & (FRONTEND_DROP_EMPTY | FRONTEND_DROP_EMPTY_EXT));
}

/* What marks V as an address of a live service (S32). */
static __always_inline bool live_address_find(const struct flow_key *tuple, struct frontend *live)
{
	struct frontend_key key = { .addr = tuple->daddr, .net = tuple->net };

	return frontend_read(&key, live);
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
	struct frontend live;

	return live_address_find(&pkt->key, &live) && (live.flags & FRONTEND_CLUSTER_IP || is_echo_request(pkt));
}

#endif
