/* source: who sends, and may it send from that address? Only first packets come here; established flows are
 * bound to the device they came from. */
#ifndef BPFNET_STAGES_SOURCE_H
#define BPFNET_STAGES_SOURCE_H

#include "bpf/lib/identity.h"
#include "bpf/connection.h"
#include "bpf/verdict.h"

static __always_inline void source_is(struct packet *pkt, struct connection *conn, const struct party *party)
{
	pkt->src_endpoint = party->endpoint;
	pkt->src_identity = party->identity;
	conn->src_flags = party->flags;
}

/* A pod: its device tells who it is, its address must agree. */
__weak __noinline int source_pod(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	__u32 ifindex = ctx->ifindex;
	struct interface *interface;
	struct endpoint *endpoint;
	struct party party;

	if (!pkt || !conn)
		return VERDICT_DROP;
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface || interface->kind != INTERFACE_POD)
		return drop(pkt, DROP_NOT_CONFIGURED);
	endpoint = endpoint_find(interface->endpoint);
	if (!endpoint || endpoint->state == ENDPOINT_FREE)
		return drop(pkt, DROP_NOT_CONFIGURED);
	pkt->src_endpoint = interface->endpoint;
	pkt->src_identity = endpoint->identity;
	if (endpoint->state != ENDPOINT_OPEN)
		return drop(pkt, DROP_ENDPOINT_CLOSED);
	if (addr_is_multicast(&pkt->key.daddr))
		return drop(pkt, DROP_MULTICAST);
	if (addr_is_loopback(&pkt->key.daddr) || addr_is_unspecified(&pkt->key.daddr))
		return drop(pkt, DROP_BAD_HEADER);
	party_find(&party, &pkt->key.saddr, pkt->key.net);
	if (!(party.flags & ADDRESS_LOCAL_POD) || party.endpoint != interface->endpoint)
		return drop(pkt, DROP_SPOOFED);
	source_is(pkt, conn, &party);
	conn->src_epoch = endpoint->epoch;
	return VERDICT_NEXT;
}

/* The host's own stack. What it forwards for others is judged as a client from outside. */
__weak __noinline int source_host(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	struct party party;

	if (!ctx || !pkt || !conn)
		return VERDICT_DROP;
	if (addr_is_multicast(&pkt->key.daddr))
		return drop(pkt, DROP_MULTICAST);
	party_find(&party, &pkt->key.saddr, pkt->key.net);
	if (party.flags & ADDRESS_LOCAL_POD)
		return drop(pkt, DROP_SPOOFED);
	source_is(pkt, conn, &party);
	return VERDICT_NEXT;
}

/* The wire. Nobody out there is one of us: own addresses would be exempt from policy. What is neither for a
 * pod nor for a service is the stack's own affair. */
__weak __noinline int source_uplink(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	struct party party;

	if (!ctx || !pkt || !conn)
		return VERDICT_DROP;
	if (addr_is_multicast(&pkt->key.daddr))
		return pass(pkt);
	if (addr_is_loopback(&pkt->key.daddr) || addr_is_unspecified(&pkt->key.daddr))
		return drop(pkt, DROP_BAD_HEADER);
	party_find(&party, &pkt->key.saddr, pkt->key.net);
	if (party.flags & (ADDRESS_LOCAL_POD | ADDRESS_LOCAL_NODE))
		return drop(pkt, DROP_SPOOFED);
	/* Pods of other nodes come by the overlay. */
	if (config.overlay_ifindex && party.node && !(party.flags & ADDRESS_REMOTE_NODE))
		return drop(pkt, DROP_SPOOFED);
	source_is(pkt, conn, &party);
	return VERDICT_NEXT;
}

/* Another node, by the overlay: it speaks for its pods and for itself. */
__weak __noinline int source_overlay(struct packet *pkt, struct connection *conn)
{
	struct party party;

	if (!pkt || !conn)
		return VERDICT_DROP;
	party_find(&party, &pkt->key.saddr, pkt->key.net);
	if (!party.node || party.node != pkt->node)
		return drop(pkt, DROP_SPOOFED);
	source_is(pkt, conn, &party);
	return VERDICT_NEXT;
}

#endif
