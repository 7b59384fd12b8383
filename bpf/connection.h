/* A new flow in the making. It is larger than the stack has room for, and so stands in a per-CPU record: a
 * hook runs with the softirqs of its CPU held off, no other can come in between. */
#ifndef BPFNET_CONNECTION_H
#define BPFNET_CONNECTION_H

#include <stddef.h>

#include "bpf/packet.h"

/* Of a packet that an ICMP error of ours is about: its headers, in whole words, so that the sums come out even. */
enum { QUOTE_MAX = 128 };

/* What a new flow will be, gathered by the stages of its first packet. B:bp and N:np as in maps/abi/flow.h;
 * C:cp -> V:vp is packet.key. */
struct connection {
	struct addr backend;     /* service: B */
	struct addr nat;         /* masquerade: N */
	__be16 backend_port;
	__be16 nat_port;
	__u16 src_flags;         /* source: enum address_flags of C */
	__u16 dst_flags;         /* policy: enum address_flags of B */
	__u32 src_epoch;         /* source: of the endpoint C, if local */
	__u32 dst_epoch;         /* policy: of the endpoint B, if local */
	__u32 backend_id;        /* service */
	__u32 generation;        /* service */
	__u32 flags;             /* enum flow_flags, and enum connection_flags */
	__u32 dst_cidr_flags;    /* policy: enum cidr_flags of B */
	__u32 out_ifindex;       /* route, of the original direction */
	__u16 mtu;               /* route */
	__u16 dst_node;          /* policy: the node that B is on or is, if it is not this one */
	__u16 out_node;          /* route, of a FLOW_TO_NODE */
	__u8 action;             /* route: enum flow_action */
	__u8 v_local;            /* service: V is an address of this node */
	struct mac smac;         /* route */
	struct mac dmac;
	__u32 slot;              /* reserve: the slot of the pair to be */
	struct flow_key reply;   /* create: the reply tuple */
	struct flow flow;        /* create: the entry being made */
	struct bpf_fib_lookup fib; /* route, and the neighbour lookup: the kernel's question and answer */
	struct frontend frontend;  /* service: V:vp's */
	struct bpf_tunnel_key tunnel; /* tunnel: where a packet is to go, or came from */
	__u8 quote[QUOTE_MAX];   /* icmp_reply: what is quoted of the packet that is answered */
};

enum connection_flags {
	CONNECTION_SNAT_SELF = 1 << 8, /* a flow of the host's own whose port a masqueraded pod holds */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct connection);
} connections MAP;

static __always_inline struct connection *connection_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&connections, &zero);
}

static __always_inline struct connection *connection_begin(void)
{
	struct connection *conn = connection_get();

	if (conn)
		__builtin_memset(conn, 0, offsetof(struct connection, fib));
	return conn;
}

#endif
