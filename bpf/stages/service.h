/* service: is the destination a frontend? Then one of its backends answers. */
#ifndef BPFNET_STAGES_SERVICE_H
#define BPFNET_STAGES_SERVICE_H

#include "bpf/lib/identity.h"
#include "bpf/connection.h"
#include "bpf/verdict.h"

/* The frontend of V:vp: its exact address first, else any local address that is open for NodePorts. */
static __always_inline struct frontend *frontend_find(const struct flow_key *tuple, bool any_local)
{
	struct frontend_key key = {
		.addr = tuple->daddr,
		.port = tuple->dport,
		.proto = tuple->proto,
		.scope = SCOPE_ADDRESS,
		.net = tuple->net,
	};
	struct frontend *frontend = bpf_map_lookup_elem(&frontends, &key);

	if (frontend || !any_local)
		return frontend;
	key.scope = SCOPE_ANY_LOCAL;
	if (addr_is_v4(&tuple->daddr))
		key.addr.w[3] = 0;
	else
		__builtin_memset(&key.addr, 0, sizeof(key.addr));
	return bpf_map_lookup_elem(&frontends, &key);
}

static __always_inline bool proto_has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

/* loadBalancerSourceRanges (S39): a set holds what may begin a connection, whoever the client is. */
static __always_inline bool source_is_allowed(const struct packet *pkt, const struct frontend *frontend)
{
	struct source_range_key key = {
		.prefixlen = 32 + 128,
		.set = frontend->source_set,
		.addr = pkt->key.saddr,
	};

	return !frontend->source_set || bpf_map_lookup_elem(&source_ranges, &key);
}

/* Pods, here and elsewhere, and the host's processes use the inner run (S20-S23). */
static __always_inline enum verdict backend_choose(struct packet *pkt, struct connection *conn,
						   const struct frontend *frontend)
{
	bool inside = conn->src_flags & (ADDRESS_POD | ADDRESS_LOCAL_POD | ADDRESS_LOCAL_NODE);
	__u32 count = inside ? frontend->count : frontend->ext_count;
	__u32 first = inside ? frontend->first : frontend->ext_first;
	__u32 silent = inside ? FRONTEND_DROP_EMPTY : FRONTEND_DROP_EMPTY_EXT;
	struct backend_slot *backend;
	__u32 index;

	pkt->service = frontend->service;
	if (pkt->flags & PACKET_MIDSTREAM)
		return drop(pkt, DROP_NO_FLOW);
	if (!source_is_allowed(pkt, frontend))
		return drop(pkt, DROP_SOURCE_RANGE);
	if (!count && frontend->flags & silent)
		return drop(pkt, DROP_NO_LOCAL_BACKEND);
	if (!count)
		return reject(pkt, DROP_NO_BACKEND);
	index = first + bpf_get_prandom_u32() % count;
	backend = bpf_map_lookup_elem(&backend_slots, &index);
	if (!backend || !backend->backend)
		return drop(pkt, DROP_NOT_CONFIGURED);
	conn->backend = backend->addr;
	conn->backend_port = backend->port;
	conn->backend_id = backend->backend;
	conn->generation = backend->generation;
	conn->flags |= FLOW_SERVICE;
	if (pkt->key.proto == IPPROTO_SCTP && backend->port != pkt->key.dport)
		return drop(pkt, DROP_SCTP_PORT);
	pkt->backend = backend->addr;
	pkt->backend_port = backend->port;
	return VERDICT_NEXT;
}

/* No frontend. Within a service range that is an error: a live address without that port refuses, an
 * address that no service has stays silent (S32). A live address is marked by a frontend of port 0. */
static __always_inline enum verdict service_unknown(struct packet *pkt, __u32 cidr_flags)
{
	struct frontend_key key = { .addr = pkt->key.daddr, .net = pkt->key.net };

	if (!(cidr_flags & CIDR_SERVICE))
		return VERDICT_NEXT;
	if (proto_has_ports(pkt->key.proto) && !(pkt->flags & PACKET_MIDSTREAM) &&
	    bpf_map_lookup_elem(&frontends, &key))
		return reject(pkt, DROP_NO_SERVICE);
	return drop(pkt, DROP_NO_SERVICE);
}

/* Sets B:bp. */
__weak __noinline int service(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	struct frontend *frontend = NULL;
	struct party v;

	if (!ctx || !pkt || !conn)
		return VERDICT_DROP;
	party_find(&v, &pkt->key.daddr, pkt->key.net);
	conn->v_local = !!(v.flags & ADDRESS_LOCAL_NODE);
	conn->backend = pkt->key.daddr;
	conn->backend_port = pkt->key.dport;
	if (!(v.flags & ADDRESS_POD) && proto_has_ports(pkt->key.proto))
		frontend = frontend_find(&pkt->key, v.flags & ADDRESS_NODE_PORT);
	if (frontend)
		return backend_choose(pkt, conn, frontend);
	return service_unknown(pkt, v.cidr_flags);
}

#endif
