/* sock_datagram: unconnected UDP sockets. Each datagram names its destination, each answer its source; a few
 * records at the socket tie the two together and keep the backend. Connected sockets are left to the packet
 * path: only there a flow can move while the socket stays connected to the service. */
#ifndef BPFNET_STAGES_SOCK_DATAGRAM_H
#define BPFNET_STAGES_SOCK_DATAGRAM_H

#include "bpf/lib/time.h"
#include "bpf/stages/sock_service.h"

static __always_inline bool peer_serves(const struct socket_datagram_peer *known, const struct sock_call *call)
{
	return known->peer.service_port == call->to.dport && addr_equal(&known->peer.service, &call->to.daddr);
}

static __always_inline bool peer_is_at(const struct socket_datagram_peer *known, const struct addr *addr,
				       __be16 port)
{
	return known->peer.service_port && known->peer.backend_port == port &&
	       addr_equal(&known->peer.backend, addr);
}

static __always_inline bool peer_is_silent(const struct socket_datagram_peer *known)
{
	return tick_now() - known->last_used >= config.timeout_udp_established;
}

/* As flow_is_stale and flow_is_reviewed say it of flows (S45): by the backend's generation at once, and once a tick
 * it is asked whose the address is now. A deleted service's clients are left where they are (S46). */
static __always_inline bool peer_is_current(const struct socket_datagram_peer *known, const struct sock_call *call)
{
	__u32 id = known->backend;
	struct backend_state *state = bpf_map_lookup_elem(&backend_states, &id);
	struct frontend frontend;

	if (!state || state->generation != known->generation || peer_is_silent(known))
		return false;
	return known->last_used == tick_now() || !passed_to_another(&call->to, known->service, &frontend);
}

static __always_inline struct socket_datagram_peer *peer_find(struct socket_datagram_peers *peers,
							       const struct sock_call *call)
{
	__u32 i;

	for (i = 0; i < SOCKET_DATAGRAM_PEERS; i++)
		if (peer_serves(&peers->of[i], call))
			return &peers->of[i];
	return NULL;
}

/* Who is talked to directly answers as itself. Its service goes by the packet path from now on, where the
 * port tells the two apart. */
static __always_inline void peer_forget_at(struct socket_datagram_peers *peers, const struct addr *addr,
					   __be16 port)
{
	__u32 i;

	for (i = 0; i < SOCKET_DATAGRAM_PEERS; i++)
		if (peer_is_at(&peers->of[i], addr, port))
			peers->of[i].peer.backend_port = 0;
}

/* A record for the call's new backend: its own, or a free one. NULL: no room, or the backend's answers
 * could not be told from those of another service. */
static __always_inline struct socket_datagram_peer *peer_room(struct socket_datagram_peers *peers,
							       const struct sock_call *call)
{
	struct socket_datagram_peer *room = NULL, *known;
	__u32 i;

	for (i = 0; i < SOCKET_DATAGRAM_PEERS; i++) {
		known = &peers->of[i];
		if (peer_serves(known, call))
			room = known;
		else if (peer_is_at(known, &call->backend, call->backend_port) && !peer_is_silent(known))
			return NULL;
	}
	for (i = 0; i < SOCKET_DATAGRAM_PEERS && !room; i++) {
		known = &peers->of[i];
		if (!known->peer.service_port || peer_is_silent(known))
			room = known;
	}
	return room;
}

/* NULL: left to the packet path. */
static __always_inline struct socket_datagram_peer *peer_choose(struct bpf_sock_addr *ctx,
								struct sock_call *call,
								struct socket_datagram_peers *peers,
								struct socket_datagram_peer *known)
{
	__u32 outcome = sock_backend(ctx, call);

	if (outcome == SOCK_NO_SERVICE) {
		if (peers)
			peer_forget_at(peers, &call->to.daddr, call->to.dport);
		return NULL;
	}
	if (outcome != SOCKET_CONNECT) {
		sock_count(outcome);
		return NULL;
	}
	peers = bpf_sk_storage_get(&socket_datagrams, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (peers)
		known = peer_room(peers, call);
	if (!peers || !known) {
		sock_count(SOCKET_LEFT_PEERS);
		return NULL;
	}
	if (peer_serves(known, call))
		sock_count(SOCKET_MOVED);
	known->peer.service = call->to.daddr;
	known->peer.service_port = call->to.dport;
	known->peer.backend = call->backend;
	known->peer.backend_port = call->backend_port;
	known->service = call->service;
	known->backend = call->backend_id;
	known->generation = call->generation;
	return known;
}

static __always_inline void sock_sendmsg(struct bpf_sock_addr *ctx, struct sock_call *call, sock_write write)
{
	struct socket_datagram_peers *peers;
	struct socket_datagram_peer *known = NULL;

	if (ctx->sk->state == SOCK_CONNECTED || !call->to.dport)
		return;
	peers = bpf_sk_storage_get(&socket_datagrams, ctx->sk, NULL, 0);
	if (peers)
		known = peer_find(peers, call);
	if (!known || !peer_is_current(known, call)) {
		/* Should the packet path take over, this record is not used again; generations begin at 1. */
		if (known)
			known->generation = 0;
		known = peer_choose(ctx, call, peers, known);
	} else if (!known->peer.backend_port) {
		known->last_used = tick_now();
		return;
	}
	if (!known)
		return;
	known->last_used = tick_now();
	write(ctx, &known->peer.backend, known->peer.backend_port);
	sock_count(SOCKET_DATAGRAM);
}

/* recvmsg: the answer of a backend is the service's. */
static __always_inline void sock_recvmsg(struct bpf_sock_addr *ctx, const struct addr *addr, sock_write write)
{
	struct socket_datagram_peers *peers = bpf_sk_storage_get(&socket_datagrams, ctx->sk, NULL, 0);
	__be16 port = ctx->user_port;
	__u32 i;

	if (!peers)
		return;
	for (i = 0; i < SOCKET_DATAGRAM_PEERS; i++) {
		if (!peer_is_at(&peers->of[i], addr, port))
			continue;
		write(ctx, &peers->of[i].peer.service, peers->of[i].peer.service_port);
		sock_count(SOCKET_ANSWER);
		return;
	}
}

#endif
