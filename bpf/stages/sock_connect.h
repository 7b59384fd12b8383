/* sock_connect: TCP. The connection is made to a backend, and the socket remembers whom it asked for. */
#ifndef BPFNET_STAGES_SOCK_CONNECT_H
#define BPFNET_STAGES_SOCK_CONNECT_H

#include "bpf/stages/sock_service.h"

static __always_inline void sock_connect(struct bpf_sock_addr *ctx, struct sock_call *call, sock_write write)
{
	__u32 outcome = sock_backend(ctx, call);
	struct socket_peer *peer;

	/* A socket may try again elsewhere: what it was led to before says nothing of this connection. */
	if (outcome != SOCKET_CONNECT) {
		bpf_sk_storage_delete(&socket_peers, ctx->sk);
		if (outcome != SOCK_NO_SERVICE)
			sock_count(outcome);
		return;
	}
	peer = bpf_sk_storage_get(&socket_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!peer) {
		sock_count(SOCKET_LEFT_PEERS);
		return;
	}
	peer->service = call->to.daddr;
	peer->service_port = call->to.dport;
	peer->backend = call->backend;
	peer->backend_port = call->backend_port;
	write(ctx, &call->backend, call->backend_port);
	sock_count(SOCKET_CONNECT);
}

/* getpeername: whom the application connected to, not who answers. */
static __always_inline void sock_peer_name(struct bpf_sock_addr *ctx, const struct addr *addr, sock_write write)
{
	struct socket_peer *peer = bpf_sk_storage_get(&socket_peers, ctx->sk, NULL, 0);

	if (!peer || peer->backend_port != (__be16)ctx->user_port || !addr_equal(&peer->backend, addr))
		return;
	write(ctx, &peer->service, peer->service_port);
	sock_count(SOCKET_PEER_NAME);
}

#endif
