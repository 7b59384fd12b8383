/* service: is the destination a frontend? Then one of its backends answers. */
#ifndef BPFNET_STAGES_SERVICE_H
#define BPFNET_STAGES_SERVICE_H

#include "bpf/connection.h"
#include "bpf/lib/identity.h"
#include "bpf/stages/affinity.h"
#include "bpf/stages/echo.h"
#include "bpf/stages/frontend.h"
#include "bpf/verdict.h"

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

/* Of the block's n-th port the backend's n-th answers. */
static __always_inline __be16 backend_port(const struct packet *pkt, const struct frontend *frontend,
					   const struct backend_slot *backend)
{
	if (!(frontend->flags & FRONTEND_PORT_RANGE))
		return backend->port;
	return bpf_htons(bpf_ntohs(backend->port) + bpf_ntohs(pkt->key.dport) - frontend->range_first);
}

/* The slot of a run that answers: the one the client is bound to, else any (S29). */
static __always_inline struct backend_slot *slot_choose(struct packet *pkt, const struct frontend *frontend,
							__u32 first, __u32 count)
{
	bool affinity = frontend->flags & FRONTEND_AFFINITY;
	int known = affinity ? affinity_find(pkt, first, count, frontend->affinity_ticks) : -1;
	__u32 index = known >= 0 ? known : first + bpf_get_prandom_u32() % count;
	struct backend_slot *slot = bpf_map_lookup_elem(&backend_slots, &index);

	if (slot && affinity && known < 0)
		affinity_remember(pkt, slot->backend, slot->generation);
	return slot;
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

	pkt->service = frontend->service;
	if (!frontend->service)
		return drop(pkt, DROP_NOT_CONFIGURED);
	if (pkt->flags & PACKET_MIDSTREAM)
		return drop(pkt, DROP_NO_FLOW);
	if (!source_is_allowed(pkt, frontend))
		return drop(pkt, DROP_SOURCE_RANGE);
	if (!count && frontend->flags & silent)
		return drop(pkt, DROP_NO_LOCAL_BACKEND);
	if (!count)
		return reject(pkt, DROP_NO_BACKEND);
	backend = slot_choose(pkt, frontend, first, count);
	if (!backend || !backend->backend)
		return drop(pkt, DROP_NOT_CONFIGURED);
	pkt->backend = conn->backend = backend->addr;
	pkt->backend_port = conn->backend_port = backend_port(pkt, frontend, backend);
	conn->backend_id = backend->backend;
	conn->generation = backend->generation;
	conn->flags |= FLOW_SERVICE;
	return VERDICT_NEXT;
}

/* No frontend, and V is no pod's and no node's. The address of a live service answers an echo; a cluster IP
 * refuses the ports it does not serve, and what no service has in a service range stays silent (S32). Ports
 * of a load balancer that are not the service's may be somebody else's. */
static __always_inline enum verdict service_unknown(struct __sk_buff *ctx, struct packet *pkt,
						    struct connection *conn, const struct party *v)
{
	struct frontend *live = &conn->frontend;
	bool cluster_ip = false;

	if (v->flags)
		return VERDICT_NEXT;
	if (live_address_find(&pkt->key, live)) {
		if (is_echo_request(pkt))
			return echo_answer(ctx, pkt);
		cluster_ip = live->flags & FRONTEND_CLUSTER_IP;
		if (cluster_ip && proto_has_ports(pkt->key.proto) && !(pkt->flags & PACKET_MIDSTREAM))
			return reject(pkt, DROP_NO_SERVICE);
	}
	return cluster_ip || v->cidr_flags & CIDR_SERVICE ? drop(pkt, DROP_NO_SERVICE) : VERDICT_NEXT;
}

/* Sets B:bp. */
__weak __noinline int service(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	struct party v;

	if (!ctx || !pkt || !conn)
		return VERDICT_DROP;
	party_find(&v, &pkt->key.daddr, pkt->key.net);
	conn->v_local = !!(v.flags & ADDRESS_LOCAL_NODE);
	conn->backend = pkt->key.daddr;
	conn->backend_port = pkt->key.dport;
	if (pkt->flags & PACKET_HOST_OWN)
		return VERDICT_NEXT;
	if (!(v.flags & ADDRESS_POD) && proto_has_ports(pkt->key.proto) &&
	    frontend_find(&pkt->key, v.flags, &conn->frontend))
		return backend_choose(pkt, conn, &conn->frontend);
	return service_unknown(ctx, pkt, conn, &v);
}

#endif
