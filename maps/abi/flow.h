/* The flow table: one plain hash, two entries for each connection, each keyed by a tuple as it arrives.
 *
 *   original:  C:cp -> V:vp      reply:  B:bp -> N:np
 *
 * Each entry holds the other tuple, and the rewrite is that tuple reversed. */
#ifndef BPFNET_ABI_FLOW_H
#define BPFNET_ABI_FLOW_H

#include "maps/abi/base.h"

/* A tuple as its packets arrive. Echo: a request has its identifier in sport, a reply in dport, the other
 * port is 0. `net` is the container network, 0 in Kubernetes. */
struct flow_key {
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto; /* IPPROTO_* */
	__u8 pad;
	__u16 net;
};
ABI_ASSERT(sizeof(struct flow_key) == 40, "flow_key");

/* Order is the order in which room is made: the first are evicted first, FLOW_ESTABLISHED TCP never. */
enum flow_state {
	FLOW_NEW = 0,         /* only the original direction was seen */
	FLOW_REPLIED = 1,     /* TCP: SYN-ACK seen, the handshake's last ACK not yet */
	FLOW_CLOSED = 2,      /* TCP: RST, FIN from both sides, or cut by policy and told */
	FLOW_CLOSING = 3,     /* TCP: FIN from one side */
	FLOW_ESTABLISHED = 4, /* both directions seen */
	FLOW_STATES
};

enum flow_action {
	FLOW_TO_ENDPOINT = 0, /* out_ifindex is the host side of the pod's veth */
	FLOW_TO_HOST = 1,     /* into the host's stack, by out_ifindex (our host device, lo, or 0: pass) */
	FLOW_TO_NEXT_HOP = 2, /* out of out_ifindex to dmac, or by neighbour lookup when dmac is zero */
	FLOW_TO_NODE = 3,     /* by the overlay to the node out_node */
	FLOW_ACTIONS
};

enum flow_flags {
	FLOW_IS_REPLY = 1 << 0,    /* this is the reply entry of its pair */
	FLOW_FIN_SEEN = 1 << 1,    /* this direction has sent FIN */
	FLOW_TRANSLATED = 1 << 2,  /* reverse(peer) differs from the key: addresses or ports are rewritten */
	FLOW_MASQUERADED = 1 << 3, /* N:np is not C:cp */
	FLOW_SERVICE = 1 << 4,     /* V:vp was translated to a backend */
	FLOW_HAIRPIN = 1 << 5,     /* a pod that reaches itself */
	FLOW_AUDITED = 1 << 6,     /* lives by audit mode alone: `rule` would have denied it */
	FLOW_PICKED_UP = 1 << 7,   /* TCP: its beginning was not seen, either end may be the client */
};

struct flow {
	struct flow_key peer; /* the other tuple of the pair: its key in this table */
	__u32 slot;           /* index in flow_slots; the same in both entries */
	__u32 last_seen;      /* tick of this direction's last packet, see struct clock_state */
	__u32 in_ifindex;     /* packets of this direction must enter here; 0: anywhere (anti-spoofing of pods) */
	__u32 out_ifindex;    /* where packets of this direction leave */
	__u8 state;           /* enum flow_state, the same in both entries */
	__u8 action;          /* enum flow_action */
	__u8 flags;           /* enum flow_flags */
	__u8 pad;
	__u16 src_endpoint;   /* endpoint index of C if C is a local pod, else 0; the same in both entries */
	__u16 dst_endpoint;   /* endpoint index of B if B is a local pod, else 0; the same in both entries */
	__u32 src_epoch;      /* endpoint.epoch under which egress was allowed */
	__u32 dst_epoch;      /* endpoint.epoch under which ingress was allowed */
	struct mac smac;      /* of a FLOW_TO_NEXT_HOP; zero: not resolved yet */
	struct mac dmac;
	__u16 mtu;            /* L3 bytes that leave without fragmentation; 0: no limit known */
	__u16 pad2;
	__u32 backend;        /* backend id if FLOW_SERVICE, else 0 */
	__u32 backend_generation;
	__u32 service;        /* frontend.service if FLOW_SERVICE, else 0 */
	__u32 rule;           /* the policy rule that allowed it (destination's if both judged), 0: none had to */
	__u32 created;        /* tick */
	__u16 in_node;        /* packets of this direction must come by the overlay from this node; 0: not by it */
	__u16 out_node;       /* of a FLOW_TO_NODE: index of the node */
	__u64 packets;        /* this direction; updated without a lock, a lost count is possible */
	__u64 bytes;          /* L3 bytes */
};
ABI_ASSERT(sizeof(struct flow) == 128, "flow");

/* One for each pair. The kernel's expiry walks these by index, so that one tick's work is bounded. */
struct flow_slot {
	struct flow_key key; /* of the original entry */
	__u32 used;          /* 0 free, 1 used */
	__u32 owner;         /* endpoint index that is charged by the quota, 0: the outside or the host */
};
ABI_ASSERT(sizeof(struct flow_slot) == 48, "flow_slot");

/* The table's own bookkeeping, one record. `timer` is a struct bpf_timer: only the kernel reads it. */
struct flow_table {
#ifdef __bpf__
	struct bpf_timer timer;
#else
	__u64 timer[2];
#endif
	__u32 high_water;  /* slots below this have been used at least once */
	__u32 gc_cursor;   /* next slot the expiry looks at */
	__u32 evict_hand;  /* next slot that is looked at when room must be made */
	__u32 tick;        /* now, in ticks; written by every expiry run, so user space can tell ages */
	__u64 live;        /* pairs in the table */
	__u64 expired;     /* pairs removed by timeout since load */
	__u64 evicted;     /* pairs removed to make room since load */
	__u64 gc_runs;
};
ABI_ASSERT(sizeof(struct flow_table) == 64, "flow_table");

#endif
