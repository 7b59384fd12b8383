/* sock_service: the backend that a call is led to, if the connection is then the same as by the packet path:
 * the same choice, the same source address, the same verdicts. Whatever may differ is left to the packet
 * path, which is complete without this. */
#ifndef BPFNET_STAGES_SOCK_SERVICE_H
#define BPFNET_STAGES_SOCK_SERVICE_H

#include "bpf/lib/identity.h"
#include "bpf/lib/proto.h"
#include "bpf/stages/frontend.h"
#include "bpf/stages/sock_call.h"

/* Not a socket_outcome: the address is no service's. */
enum { SOCK_NO_SERVICE = SOCKET_OUTCOMES_MAX };

/* A caller looks for itself among so many backends; in a larger service it is left alone when it is drawn. */
enum { SOCK_RUN_SEARCHED = 64 };

static __always_inline bool sock_is_node_address(const struct addr *addr)
{
	__u32 ifindex = config.host_ifindex;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ifindex);

	if (!interface || addr_is_unspecified(addr)) /* so stands a family that the node has no address of */
		return false;
	return addr_equal(addr, &interface->ip4) || addr_equal(addr, &interface->ip6);
}

/* Who chose a source, a device or a route of its own keeps it; one port may reach a service and its backend at
 * once, which only the packet path can tell apart. But towards loopback that path has packets from loopback
 * alone: where kubelet's firewall is, those from the node's address are dropped before our hook. */
static __always_inline bool sock_keeps_its_own(struct bpf_sock_addr *ctx, const struct sock_call *call)
{
	if (ctx->sk->bound_dev_if || ctx->sk->mark)
		return true;
	return call->bound && !(addr_is_loopback(&call->to.daddr) && sock_is_node_address(&call->source));
}

/* A pod that is a backend itself: by the packet path its draw may be itself, seen from the node's address
 * (S27). Taking only the other draws here would make it a rare backend of its own. Verified on its own: inlined,
 * the loop is walked again for each way that leads to it, and a start waits seconds for that. */
__weak __noinline int sock_calls_itself(struct sock_call *call, __u32 first, __u32 count)
{
	struct endpoint *endpoint;
	struct backend_slot *slot;
	struct addr own;
	__u32 i, index;

	if (!call || call->host || count > SOCK_RUN_SEARCHED)
		return false;
	endpoint = endpoint_find(call->endpoint);
	if (!endpoint)
		return false;
	own = addr_is_v4(&call->to.daddr) ? endpoint->ip4 : endpoint->ip6;
	for (i = 0; i < SOCK_RUN_SEARCHED; i++) {
		if (i >= count)
			break;
		index = first + i;
		slot = bpf_map_lookup_elem(&backend_slots, &index);
		if (slot && addr_equal(&slot->addr, &own))
			return true;
	}
	return false;
}

/* Does a connection to B, named directly, take the way and the source of one that was translated to B? */
static __always_inline enum socket_outcome sock_backend_check(const struct sock_call *call)
{
	struct address_info *info = address_find(&call->backend, call->to.net);
	struct flow_key direct = call->to;

	/* Someone outside: another interface of the pod may lead there, or another address of the node. */
	if (!info || !(info->flags & (ADDRESS_POD | ADDRESS_LOCAL_POD | ADDRESS_LOCAL_NODE | ADDRESS_REMOTE_NODE)))
		return SOCKET_LEFT_BACKEND;
	if (info->flags & ADDRESS_LOCAL_POD && !call->host && info->endpoint == call->endpoint)
		return SOCKET_LEFT_ITSELF;
	/* The kernel answers its own from the address that was asked. */
	if (call->host && info->flags & ADDRESS_LOCAL_NODE && !sock_is_node_address(&call->backend))
		return SOCKET_LEFT_ITSELF;
	if (info->flags & ADDRESS_POD)
		return SOCKET_CONNECT;
	/* A node's port may be a NodePort too: the packet path translates once, both together would twice. */
	direct.daddr = call->backend;
	direct.dport = call->backend_port;
	return is_frontend(&direct, info->flags) ? SOCKET_LEFT_BACKEND : SOCKET_CONNECT;
}

/* Does the packet path know the datagram already? It is the answer of a server to a client at an address of
 * the node whose port has become a NodePort or hostPort; or of a flow that was left to the packet path when it
 * began, and stays with its backend (S46). */
static __always_inline enum socket_outcome sock_flow_check(struct bpf_sock_addr *ctx,
							   const struct sock_call *call)
{
	__u32 ifindex = config.host_ifindex;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	struct endpoint *endpoint = endpoint_find(call->endpoint);
	bool v4 = addr_is_v4(&call->to.daddr);
	struct flow_key tuple = call->to;
	struct flow *flow;

	if (!interface || !endpoint)
		return SOCKET_CONNECT;
	if (call->bound)
		tuple.saddr = call->source;
	else if (addr_is_loopback(&tuple.daddr))
		tuple.saddr = tuple.daddr;
	else if (call->host)
		tuple.saddr = v4 ? interface->ip4 : interface->ip6;
	else
		tuple.saddr = v4 ? endpoint->ip4 : endpoint->ip6;
	tuple.sport = bpf_htons(ctx->sk->src_port);
	flow = bpf_map_lookup_elem(&flows, &tuple);
	if (!flow)
		return SOCKET_CONNECT;
	if (flow->flags & FLOW_IS_REPLY)
		return SOCKET_LEFT_ANSWER;
	return flow->flags & FLOW_SERVICE ? SOCKET_LEFT_FLOW : SOCKET_CONNECT;
}

/* Is the frontend one of those that only the packet path does? */
static __always_inline enum socket_outcome sock_frontend_check(const struct frontend *frontend)
{
	if (!frontend->count)
		return SOCKET_LEFT_EMPTY;
	if (frontend->flags & FRONTEND_AFFINITY)
		return SOCKET_LEFT_AFFINITY;
	if (frontend->source_set)
		return SOCKET_LEFT_SOURCE_RANGE;
	if (frontend->flags & FRONTEND_PORT_RANGE)
		return SOCKET_LEFT_PORT_RANGE;
	return SOCKET_CONNECT;
}

/* SOCKET_CONNECT: B:bp is set. Callers are always inside: they use the inner run (S20-S23). */
static __always_inline __u32 sock_backend(struct bpf_sock_addr *ctx, struct sock_call *call)
{
	bool loopback = addr_is_loopback(&call->to.daddr);
	__u16 flags = address_flags_find(&call->to.daddr, call->to.net);
	struct frontend frontend;
	struct backend_slot *slot;
	__u32 outcome, index;

	/* Loopback of a pod is the pod's own; addresses of pods are never a service's. */
	if ((loopback && !call->host) || flags & ADDRESS_POD)
		return SOCK_NO_SERVICE;
	if (!frontend_find(&call->to, flags, &frontend))
		return SOCK_NO_SERVICE;
	outcome = sock_frontend_check(&frontend);
	if (outcome != SOCKET_CONNECT)
		return outcome;
	if (sock_keeps_its_own(ctx, call))
		return SOCKET_LEFT_BOUND;
	/* By another address of the node a host's process would be seen from that one. */
	if (call->host && !loopback && flags & ADDRESS_LOCAL_NODE && !sock_is_node_address(&call->to.daddr))
		return SOCKET_LEFT_BOUND;
	outcome = call->to.proto == IPPROTO_UDP ? sock_flow_check(ctx, call) : SOCKET_CONNECT;
	if (outcome != SOCKET_CONNECT)
		return outcome;
	if (sock_calls_itself(call, frontend.first, frontend.count))
		return SOCKET_LEFT_ITSELF;
	index = frontend.first + bpf_get_prandom_u32() % frontend.count;
	slot = bpf_map_lookup_elem(&backend_slots, &index);
	if (!slot || !slot->backend)
		return SOCKET_LEFT_EMPTY;
	call->backend = slot->addr;
	call->backend_port = slot->port;
	call->service = frontend.service;
	call->backend_id = slot->backend;
	call->generation = slot->generation;
	return sock_backend_check(call);
}

#endif
