/* Who and where: local pods, addresses and their identities, interfaces. */
#ifndef BPFNET_ABI_ENDPOINT_H
#define BPFNET_ABI_ENDPOINT_H

#include "maps/abi/base.h"

enum endpoint_state {
	ENDPOINT_FREE = 0,
	ENDPOINT_CLOSED = 1, /* nothing in or out yet: policy is not in place (P20) */
	ENDPOINT_OPEN = 2,
};

enum endpoint_flags {
	ENDPOINT_REJECTS = 1 << 0, /* whom its policy denies is told; else silence */
	ENDPOINT_AUDITED = 1 << 1, /* its policy drops nothing: what it denies is let through and reported */
	ENDPOINT_UNSETTLED = 1 << 7, /* of index 0: verdicts may have changed and epochs are yet to be raised */
};

/* By endpoint index; index 0 is no endpoint's. */
struct endpoint {
	struct addr ip4; /* v4-mapped; zero: none. The one shown; `addresses` holds all */
	struct addr ip6;
	__u32 ifindex; /* host side of the veth */
	__u32 identity;
	__u32 ingress_set;
	__u32 egress_set;
	__u32 epoch; /* raised by whatever may change a verdict: flows with another are judged again */
	struct mac mac;      /* pod side */
	struct mac host_mac; /* host side, the pod's gateway */
	__u16 net;
	__u8 state; /* enum endpoint_state */
	__u8 flags; /* enum endpoint_flags */
	__u32 mtu;
};
ABI_ASSERT(sizeof(struct endpoint) == 72, "endpoint");

/* By endpoint index: live flow pairs charged to it, for the quota. Written by the datapath only. */
struct endpoint_usage {
	__u32 flows;
};

/* Exact addresses: pods everywhere, nodes, this node's own. */
struct address_key {
	struct addr addr;
	__u16 net;
	__u16 pad;
};
ABI_ASSERT(sizeof(struct address_key) == 20, "address_key");

enum address_flags {
	ADDRESS_POD = 1 << 0,         /* of a pod, here or on another node: never masqueraded towards */
	ADDRESS_LOCAL_POD = 1 << 1,   /* of a pod on this node: `endpoint` is set */
	ADDRESS_LOCAL_NODE = 1 << 2,  /* assigned to this node's stack */
	ADDRESS_REMOTE_NODE = 1 << 3,
	ADDRESS_NODE_PORT = 1 << 4,   /* local and open for NodePorts (S35) */
};

struct address_info {
	__u32 identity;
	__u16 endpoint;
	__u16 flags; /* enum address_flags */
	__u16 node;  /* ADDRESS_REMOTE_NODE, and a pod that is not here: index of the node; 0: not known */
	__u16 pad;
};
ABI_ASSERT(sizeof(struct address_info) == 12, "address_info");

/* Prefixes: CIDRs named by policies, cluster ranges, service ranges. Every entry carries the flags of the
 * prefixes that cover it: one lookup tells all. */
struct cidr_key {
	__u32 prefixlen; /* 32 + prefix length over the 16-byte address */
	__u16 net;
	__u16 pad;
	struct addr addr;
};
ABI_ASSERT(sizeof(struct cidr_key) == 24, "cidr_key");

enum cidr_flags {
	CIDR_CLUSTER = 1 << 0, /* pod ranges and configured ones: not masqueraded towards */
	CIDR_SERVICE = 1 << 1, /* addresses of services: dropped where no frontend is (S32) */
};

struct cidr_info {
	__u32 identity;
	__u32 flags; /* enum cidr_flags */
	__u16 node;  /* index of the node whose pods have these addresses; 0: none's, or this one's */
	__u16 pad;
};
ABI_ASSERT(sizeof(struct cidr_info) == 12, "cidr_info");

enum interface_kind {
	INTERFACE_POD = 1,
	INTERFACE_UPLINK = 2,
	INTERFACE_HOST = 3, /* our host device: the host's stack seen as one more endpoint */
	INTERFACE_LOOPBACK = 4,
	INTERFACE_OVERLAY = 5, /* where tunnels of other nodes end */
};

/* By ifindex. */
struct interface {
	struct addr ip4; /* uplink: masquerade source; host: the node's address */
	struct addr ip6;
	__u8 kind; /* enum interface_kind */
	__u8 pad;
	__u16 endpoint; /* pod: endpoint index */
	struct mac mac;
	__u16 mtu;
};
ABI_ASSERT(sizeof(struct interface) == 44, "interface");

/* Other nodes, by an index that each node gives for itself and never changes: flows and prefixes name a node by
 * it, so that they hold when the node's address is another. Index 0 is none. */
struct node {
	struct addr addr;   /* where the overlay reaches it; zero: not at all */
	struct addr source; /* this node's address of the same family, as the other one knows it */
	__u16 mtu;          /* L3 bytes that fit in one tunnel packet */
	__u16 pad;
};
ABI_ASSERT(sizeof(struct node) == 36, "node");

enum { NODES_MAX = 8192 };

/* Ethernet addresses inside of tunnels. All nodes' overlay devices have the first, so that their stacks take
 * packets for their own; the second only has to be another, or VXLAN takes them for a loop. */
#define OVERLAY_MAC_TO { { 0x02, 0x62, 0x70, 0x66, 0x6e, 0x01 } }
#define OVERLAY_MAC_FROM { { 0x02, 0x62, 0x70, 0x66, 0x6e, 0x02 } }

#endif
