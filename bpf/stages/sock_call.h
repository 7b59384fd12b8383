/* sock_call: a system call on a socket that names an address, and whose socket it is. */
#ifndef BPFNET_STAGES_SOCK_CALL_H
#define BPFNET_STAGES_SOCK_CALL_H

#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/identity.h"
#include "bpf/lib/proto.h"
#include "bpf/maps.h"

/* What the programs return: the call goes on, with the address as it then stands, or fails. */
enum sock_verdict {
	SOCK_REFUSE = 0,
	SOCK_PROCEED = 1,
};

/* libc's headers are not for BPF programs. */
enum { SOCK_STREAM = 1 };

enum { SOCK_CONNECTED = 1 }; /* bpf_sock.state of a connected socket, TCP_ESTABLISHED for UDP too */

struct sock_call {
	struct flow_key to;   /* sock_call_begin: what the application names; the source's fields stay zero */
	struct addr source;   /* the hook: what the socket is bound to, else zero or 0.0.0.0 */
	struct addr backend;  /* sock_backend */
	__u32 backend_id;     /* sock_backend */
	__u32 generation;     /* sock_backend */
	__u32 service;        /* sock_backend */
	__be16 backend_port;  /* sock_backend */
	__u16 endpoint;       /* sock_call_begin: the calling pod */
	__u8 host;            /* sock_call_begin: a process of the node */
	__u8 bound;           /* the hook: to an address or a port that must stay the caller's */
};

static __always_inline void sock_count(enum socket_outcome outcome)
{
	__u32 index = outcome;
	struct socket_count *count = bpf_map_lookup_elem(&socket_counts, &index);

	if (count)
		count->calls++;
}

static __always_inline void sock_read4(struct bpf_sock_addr *ctx, struct addr *addr)
{
	addr_from_v4(addr, ctx->user_ip4);
}

/* An IPv6 socket names IPv4 addresses as we do: v4-mapped. */
static __always_inline void sock_read6(struct bpf_sock_addr *ctx, struct addr *addr)
{
	addr->w[0] = ctx->user_ip6[0];
	addr->w[1] = ctx->user_ip6[1];
	addr->w[2] = ctx->user_ip6[2];
	addr->w[3] = ctx->user_ip6[3];
}

static __always_inline void sock_write4(struct bpf_sock_addr *ctx, const struct addr *addr, __be16 port)
{
	ctx->user_ip4 = addr->w[3];
	ctx->user_port = port;
}

static __always_inline void sock_write6(struct bpf_sock_addr *ctx, const struct addr *addr, __be16 port)
{
	ctx->user_ip6[0] = addr->w[0];
	ctx->user_ip6[1] = addr->w[1];
	ctx->user_ip6[2] = addr->w[2];
	ctx->user_ip6[3] = addr->w[3];
	ctx->user_port = port;
}

/* A family's way to write an address back, for the stages that know none. Inlined away. */
typedef void (*sock_write)(struct bpf_sock_addr *ctx, const struct addr *addr, __be16 port);

/* Is the socket one of ours? Fills in all but the address. */
static __always_inline bool sock_call_begin(struct bpf_sock_addr *ctx, struct sock_call *call)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct socket_namespace *namespace = bpf_map_lookup_elem(&socket_namespaces, &cookie);

	if (!namespace)
		return false;
	call->to.dport = ctx->user_port;
	call->to.proto = ctx->protocol;
	call->to.net = namespace->net;
	call->endpoint = namespace->endpoint;
	call->host = namespace->kind == SOCKET_HOST;
	return true;
}

static __always_inline bool sock_is_tcp(struct bpf_sock_addr *ctx)
{
	return ctx->type == SOCK_STREAM && ctx->protocol == IPPROTO_TCP;
}

#endif
