/* The cgroup hooks of sockets: a process that names a service in a system call is led to a backend there and
 * then. Each hook comes in two, for sockets of either family; IPv6 sockets name IPv4 addresses too. */

#include "bpf/hooks/license.h"
#include "bpf/stages/sock_bind.h"
#include "bpf/stages/sock_connect.h"
#include "bpf/stages/sock_datagram.h"

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	struct sock_call call = {};

	if (sock_is_tcp(ctx) && sock_call_begin(ctx, &call)) {
		sock_read4(ctx, &call.to.daddr);
		addr_from_v4(&call.source, ctx->sk->src_ip4);
		call.bound = ctx->sk->src_port || !addr_is_unspecified(&call.source);
		sock_connect(ctx, &call, sock_write4);
	}
	return SOCK_PROCEED;
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	struct sock_call call = {};

	if (sock_is_tcp(ctx) && sock_call_begin(ctx, &call)) {
		sock_read6(ctx, &call.to.daddr);
		call.source.w[0] = ctx->sk->src_ip6[0];
		call.source.w[1] = ctx->sk->src_ip6[1];
		call.source.w[2] = ctx->sk->src_ip6[2];
		call.source.w[3] = ctx->sk->src_ip6[3];
		call.bound = ctx->sk->src_port || !addr_is_unspecified(&call.source);
		sock_connect(ctx, &call, sock_write6);
	}
	return SOCK_PROCEED;
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct sock_call call = {};

	if (sock_call_begin(ctx, &call)) {
		sock_read4(ctx, &call.to.daddr);
		addr_from_v4(&call.source, ctx->msg_src_ip4);
		call.bound = call.host && !addr_is_unspecified(&call.source);
		sock_sendmsg(ctx, &call, sock_write4);
	}
	return SOCK_PROCEED;
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct sock_call call = {};

	if (sock_call_begin(ctx, &call)) {
		sock_read6(ctx, &call.to.daddr);
		call.source.w[0] = ctx->msg_src_ip6[0];
		call.source.w[1] = ctx->msg_src_ip6[1];
		call.source.w[2] = ctx->msg_src_ip6[2];
		call.source.w[3] = ctx->msg_src_ip6[3];
		call.bound = call.host && !addr_is_unspecified(&call.source);
		sock_sendmsg(ctx, &call, sock_write6);
	}
	return SOCK_PROCEED;
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct addr from;

	sock_read4(ctx, &from);
	sock_recvmsg(ctx, &from, sock_write4);
	return SOCK_PROCEED;
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct addr from;

	sock_read6(ctx, &from);
	sock_recvmsg(ctx, &from, sock_write6);
	return SOCK_PROCEED;
}

SEC("cgroup/getpeername4")
int sock_getpeername4(struct bpf_sock_addr *ctx)
{
	struct addr peer;

	sock_read4(ctx, &peer);
	sock_peer_name(ctx, &peer, sock_write4);
	return SOCK_PROCEED;
}

SEC("cgroup/getpeername6")
int sock_getpeername6(struct bpf_sock_addr *ctx)
{
	struct addr peer;

	sock_read6(ctx, &peer);
	sock_peer_name(ctx, &peer, sock_write6);
	return SOCK_PROCEED;
}

SEC("cgroup/bind4")
int sock_bind4(struct bpf_sock_addr *ctx)
{
	struct sock_call call = {};

	if (!sock_call_begin(ctx, &call))
		return SOCK_PROCEED;
	sock_read4(ctx, &call.to.daddr);
	return sock_bind(ctx, &call);
}

SEC("cgroup/bind6")
int sock_bind6(struct bpf_sock_addr *ctx)
{
	struct sock_call call = {};

	if (!sock_call_begin(ctx, &call))
		return SOCK_PROCEED;
	sock_read6(ctx, &call.to.daddr);
	return sock_bind(ctx, &call);
}
