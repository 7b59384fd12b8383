/* route: where packets of the original direction go. */
#ifndef BPFNET_STAGES_ROUTE_H
#define BPFNET_STAGES_ROUTE_H

#include "bpf/lib/identity.h"
#include "bpf/lib/mac.h"
#include "bpf/stages/deliver.h"
#include "bpf/connection.h"
#include "bpf/verdict.h"

static __always_inline enum verdict route_to_endpoint(struct packet *pkt, struct connection *conn)
{
	struct endpoint *endpoint = endpoint_find(pkt->dst_endpoint);

	if (!endpoint || !endpoint->ifindex)
		return drop(pkt, DROP_NOT_CONFIGURED);
	conn->action = FLOW_TO_ENDPOINT;
	conn->out_ifindex = endpoint->ifindex;
	conn->mtu = endpoint->mtu;
	conn->smac = endpoint->host_mac;
	conn->dmac = endpoint->mac;
	return VERDICT_NEXT;
}

static __always_inline enum verdict route_to_host(const struct packet *pkt, struct connection *conn)
{
	conn->action = FLOW_TO_HOST;
	/* From the wire the packet is on its way there, by a device the stack routes the client to. */
	if (pkt->hook == HOOK_from_uplink)
		return VERDICT_NEXT;
	/* Between two addresses of our own the stack expects packets on lo. */
	if (conn->src_flags & ADDRESS_LOCAL_NODE) {
		conn->out_ifindex = LOOPBACK_IFINDEX;
		return VERDICT_NEXT;
	}
	conn->out_ifindex = config.host_ifindex;
	conn->smac = conn->dmac = host_mac();
	return VERDICT_NEXT;
}

static __always_inline enum verdict route_to_node(struct packet *pkt, struct connection *conn)
{
	struct node *node = node_find(conn->dst_node);

	if (!conn->dst_node || !node || addr_is_unspecified(&node->addr))
		return drop(pkt, DROP_NO_ROUTE);
	conn->action = FLOW_TO_NODE;
	conn->out_node = conn->dst_node;
	conn->out_ifindex = config.overlay_ifindex;
	conn->mtu = node->mtu;
	conn->smac = (struct mac)OVERLAY_MAC_FROM;
	conn->dmac = (struct mac)OVERLAY_MAC_TO;
	return VERDICT_NEXT;
}

__weak __noinline int route(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	struct bpf_fib_lookup *fib;
	enum verdict verdict;

	if (!pkt || !conn)
		return VERDICT_DROP;
	if (pkt->flags & PACKET_HOST_OWN) {
		conn->action = FLOW_TO_HOST; /* passes: the stack's route stands */
		return VERDICT_NEXT;
	}
	if (pkt->dst_endpoint)
		return route_to_endpoint(pkt, conn);
	if (conn->dst_flags & ADDRESS_LOCAL_NODE)
		return route_to_host(pkt, conn);
	if (needs_overlay(conn->src_flags, conn->dst_flags, conn->dst_node))
		return route_to_node(pkt, conn);
	conn->action = FLOW_TO_NEXT_HOP;
	fib = &conn->fib;
	fib_fill(fib, &pkt->key.saddr, &conn->backend);
	RUN(fib_find(ctx, pkt, fib));
	conn->out_ifindex = fib->ifindex;
	conn->mtu = fib->mtu_result;
	__builtin_memcpy(&conn->smac, fib->smac, sizeof(conn->smac));
	__builtin_memcpy(&conn->dmac, fib->dmac, sizeof(conn->dmac));
out:
	return verdict;
}

#endif
