/* clash: a client may use one port of its own both towards a service and towards the process of this host that answers
 * for it. Both connections would be answered under one tuple; the pair of the service takes it, and the other
 * connection, which is none of ours, never hears a word. Whoever comes second moves to another port of the client's. */
#ifndef BPFNET_STAGES_CLASH_H
#define BPFNET_STAGES_CLASH_H

#include "bpf/connection.h"
#include "bpf/lib/host_socket.h"
#include "bpf/stages/frontend.h"
#include "bpf/stages/slots.h"

/* The beginning of a connection to a process of the host whose answers a pair would take. One that has ended is
 * forgotten instead. */
static __always_inline bool clashes_with_flow(const struct packet *pkt)
{
	struct flow_key reply;
	struct flow *flow;

	if (pkt->key.proto == IPPROTO_TCP ? !packet_is_tcp_syn(pkt) : !proto_has_ports(pkt->key.proto))
		return false;
	key_reverse(&reply, &pkt->key);
	flow = bpf_map_lookup_elem(&flows, &reply);
	if (!flow || !(flow->flags & FLOW_IS_REPLY))
		return false;
	if (flow->state == FLOW_CLOSED) {
		pair_remove(flow->slot);
		return false;
	}
	return true;
}

/* The other way round: is the flow to be one that takes what a socket of the host has? That of a process which the
 * client of a service has reached by itself, from the same port; and, of a port that was `chosen`, whoever has it.
 * A connected UDP socket may as well be of this very service, whose pair was idle too long: it is left its client. */
__weak __noinline int clashes_with_socket(struct __sk_buff *ctx, struct connection *conn, bool chosen)
{
	struct flow_key direct;

	if (!ctx || !conn)
		return 1;
	if (chosen && host_socket_has(ctx, &conn->reply, false))
		return 1;
	if (conn->action != FLOW_TO_HOST)
		return 0;
	if (!chosen && !(conn->flags & FLOW_SERVICE && conn->reply.proto == IPPROTO_TCP))
		return 0;
	key_reverse(&direct, &conn->reply);
	return host_socket_has(ctx, &direct, true);
}

#endif
