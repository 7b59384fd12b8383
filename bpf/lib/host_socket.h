/* Sockets of the host, which its stack would give a packet to. */
#ifndef BPFNET_LIB_HOST_SOCKET_H
#define BPFNET_LIB_HOST_SOCKET_H

#include "bpf/lib/addr.h"
#include "bpf/lib/proto.h"
#include "bpf/packet.h"

/* struct bpf_sock.state; the kernel's names are not for BPF programs. A connected UDP socket is established. */
enum {
	HOST_SOCKET_ESTABLISHED = 1,
	HOST_SOCKET_LISTEN = 10,
};

static __always_inline bool host_socket_is_connected(const struct bpf_sock *sk, __u8 proto)
{
	return proto == IPPROTO_TCP ? sk->state != HOST_SOCKET_LISTEN : sk->state == HOST_SOCKET_ESTABLISHED;
}

/* Is there one for packets of this tuple? `connected`: to the tuple's source, not just open to everybody. */
static __always_inline bool host_socket_has(struct __sk_buff *ctx, const struct flow_key *to, bool connected)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 size;
	bool found;

	if (to->proto != IPPROTO_TCP && to->proto != IPPROTO_UDP)
		return false;
	if (addr_is_v4(&to->saddr)) {
		tuple.ipv4.saddr = to->saddr.w[3];
		tuple.ipv4.daddr = to->daddr.w[3];
		tuple.ipv4.sport = to->sport;
		tuple.ipv4.dport = to->dport;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &to->saddr, sizeof(to->saddr));
		__builtin_memcpy(tuple.ipv6.daddr, &to->daddr, sizeof(to->daddr));
		tuple.ipv6.sport = to->sport;
		tuple.ipv6.dport = to->dport;
		size = sizeof(tuple.ipv6);
	}
	if (to->proto == IPPROTO_TCP)
		sk = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	found = !connected || host_socket_is_connected(sk, to->proto);
	bpf_sk_release(sk);
	return found;
}

/* An answer to a connection of the host's own, whose port is a NodePort or hostPort as well: the stack chose
 * it, or had it first. A listener is nobody's answer, services win over those (S36). */
static __always_inline bool answers_host(struct __sk_buff *ctx, const struct packet *pkt)
{
	if (pkt->key.proto == IPPROTO_TCP && !(pkt->flags & PACKET_MIDSTREAM))
		return false;
	return host_socket_has(ctx, &pkt->key, true);
}

#endif
