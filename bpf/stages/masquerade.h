/* masquerade: does the answering side see another address than the client's? Sets N; the port is found when
 * the flow is created, by claiming it. */
#ifndef BPFNET_STAGES_MASQUERADE_H
#define BPFNET_STAGES_MASQUERADE_H

#include "bpf/lib/identity.h"
#include "bpf/connection.h"
#include "bpf/verdict.h"

/* The one of the node's own addresses that it is sure to be known by to other nodes: tunnels bring no others. */
static __always_inline bool is_known_of_node(const struct packet *pkt)
{
	__u32 ifindex = config.host_ifindex;
	struct interface *node = bpf_map_lookup_elem(&interfaces, &ifindex);

	return node && addr_equal(&pkt->key.saddr, pkt->family == 4 ? &node->ip4 : &node->ip6);
}

static __always_inline bool masquerade_is_needed(const struct packet *pkt, const struct connection *conn)
{
	bool known = conn->dst_flags & (ADDRESS_POD | ADDRESS_LOCAL_NODE | ADDRESS_REMOTE_NODE) ||
		     conn->dst_cidr_flags & CIDR_CLUSTER;
	bool here = conn->dst_flags & (ADDRESS_LOCAL_POD | ADDRESS_LOCAL_NODE);

	if (pkt->flags & PACKET_HOST_OWN)
		return false;
	/* A pod that reaches itself would take its own address for its own. */
	if (conn->flags & FLOW_HAIRPIN)
		return true;
	/* 127.0.0.1 means another host everywhere else. */
	if (addr_is_loopback(&pkt->key.saddr))
		return true;
	/* A pod leaves the cluster. */
	if (conn->src_flags & ADDRESS_LOCAL_POD)
		return config.masquerade && !known;
	if (conn->src_flags & ADDRESS_LOCAL_NODE)
		return conn->action == FLOW_TO_NODE && !is_known_of_node(pkt);
	/* A client from outside whose backend is elsewhere: the answer must come back through us. Other nodes take
	 * nothing from a tunnel that is not a pod's or the node's own. */
	return (conn->flags & FLOW_SERVICE && !here) || conn->action == FLOW_TO_NODE;
}

/* The egress device's address of the right family; towards what is on this node, the node's address. */
static __always_inline struct interface *masquerade_interface(const struct connection *conn)
{
	__u32 ifindex = conn->action == FLOW_TO_NEXT_HOP ? conn->out_ifindex : config.host_ifindex;

	return bpf_map_lookup_elem(&interfaces, &ifindex);
}

__weak __noinline int masquerade(struct packet *pkt, struct connection *conn)
{
	struct interface *interface;

	if (!pkt || !conn)
		return VERDICT_DROP;
	conn->nat = pkt->key.saddr;
	conn->nat_port = pkt->key.sport;
	if (conn->flags & FLOW_SERVICE && addr_equal(&conn->backend, &pkt->key.saddr) && pkt->src_endpoint)
		conn->flags |= FLOW_HAIRPIN;
	if (!masquerade_is_needed(pkt, conn))
		return VERDICT_NEXT;
	if (pkt->flags & PACKET_MIDSTREAM)
		return drop(pkt, DROP_NO_FLOW);
	interface = masquerade_interface(conn);
	if (!interface)
		return drop(pkt, DROP_NOT_CONFIGURED);
	conn->nat = pkt->family == 4 ? interface->ip4 : interface->ip6;
	if (addr_is_unspecified(&conn->nat))
		return drop(pkt, DROP_NOT_CONFIGURED);
	conn->flags |= FLOW_MASQUERADED;
	return VERDICT_NEXT;
}

#endif
