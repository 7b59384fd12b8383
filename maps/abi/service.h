/* Frontends and their backends. A frontend's backends stand in a run of the slot array:
 * slot = first + random % count, in the order of their backend ids. A run is never changed in place: a new one is written, the frontend is
 * switched by one update, the old run is freed after a grace period. */
#ifndef BPFNET_ABI_SERVICE_H
#define BPFNET_ABI_SERVICE_H

#include "maps/abi/base.h"

enum frontend_scope {
	SCOPE_ADDRESS = 0,   /* ClusterIP, load-balancer VIP, externalIP, hostPort with hostIP */
	SCOPE_ANY_LOCAL = 1, /* NodePort, hostPort: every local address; key.addr is 0.0.0.0 or :: (mapped) */
};

struct frontend_key {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 scope; /* enum frontend_scope */
	__u16 net;
	__u16 pad;
};
ABI_ASSERT(sizeof(struct frontend_key) == 24, "frontend_key");

enum frontend_flags {
	FRONTEND_CLUSTER_IP = 1 << 0,
	FRONTEND_NODE_PORT = 1 << 1,
	FRONTEND_LOAD_BALANCER = 1 << 2,
	FRONTEND_EXTERNAL_IP = 1 << 3,
	FRONTEND_HOST_PORT = 1 << 4,
	FRONTEND_AFFINITY = 1 << 5,
	FRONTEND_DROP_EMPTY = 1 << 6,     /* an empty internal run is a silent drop, not a reject (S31) */
	FRONTEND_DROP_EMPTY_EXT = 1 << 7, /* the same for the external run */
	FRONTEND_PORT_RANGE = 1 << 8,     /* backend port + (destination port - range_first) answers */
};

/* A frontend of port 0 and protocol 0 has no backends: it marks a live address. An echo request to it is
 * answered; with FRONTEND_CLUSTER_IP any other port or protocol is refused (S32). */

struct frontend {
	__u32 first; /* run for clients inside: pods and host processes */
	__u32 count;
	__u32 ext_first; /* run for clients outside; the same run when no traffic policy divides them */
	__u32 ext_count;
	__u32 service; /* id of the ServicePort; names it in flows, affinity and drops */
	__u32 affinity_ticks;
	__u32 flags; /* enum frontend_flags */
	__u32 source_set;   /* key of `source_ranges`: who may begin a connection (S39); 0: everybody */
	__u16 range_first;  /* FRONTEND_PORT_RANGE: the first port of the whole published range, host order */
	__u16 pad;
	__u32 seal; /* in `frontends`: frontend_seal() of key and value */
};
ABI_ASSERT(sizeof(struct frontend) == 40, "frontend");

ABI_INLINE __u32 frontend_seal_add(__u32 seal, __u32 word)
{
	seal = (seal ^ word) * 0x9e3779b1u;
	return seal ^ seal >> 15;
}

/* Tells a whole value of this key from any other bytes. The kernel puts an element of a hash that was replaced
 * or deleted to the next use at once (bpf_mem_cache_free, Linux 6.1 on), under the eyes of whoever has just
 * looked it up: the reader may find the value of another key there, or halves of two. The tries of
 * `frontend_ranges` wait for a grace period and need no seal. */
ABI_INLINE __u32 frontend_seal(const struct frontend_key *key, const struct frontend *value)
{
	__u32 seal = key->net;

	for (int i = 0; i < 4; i++)
		seal = frontend_seal_add(seal, key->addr.w[i]);
	seal = frontend_seal_add(seal, (__u32)key->port << 16 | (__u32)key->proto << 8 | key->scope);
	seal = frontend_seal_add(seal, value->first);
	seal = frontend_seal_add(seal, value->count);
	seal = frontend_seal_add(seal, value->ext_first);
	seal = frontend_seal_add(seal, value->ext_count);
	seal = frontend_seal_add(seal, value->service);
	seal = frontend_seal_add(seal, value->affinity_ticks);
	seal = frontend_seal_add(seal, value->flags);
	seal = frontend_seal_add(seal, value->source_set);
	return frontend_seal_add(seal, value->range_first);
}

/* Frontends for blocks of ports, asked when no exact one is there: a published range is a handful of these.
 * prefixlen: FRONTEND_RANGE_BITS + the leading bits of `port` that count. */
enum { FRONTEND_RANGE_BITS = 160 };
struct frontend_range_key {
	__u32 prefixlen;
	struct addr addr;
	__u8 proto;
	__u8 scope; /* enum frontend_scope */
	__u16 net;
	__be16 port; /* of the block's first port; bits beyond the prefix are zero */
	__u16 pad;
};
ABI_ASSERT(sizeof(struct frontend_range_key) == 28, "frontend_range_key");

/* Who may use a frontend. Sets are never changed in place: like runs of slots, a new one is written and the
 * frontend switched. prefixlen: 32 + prefix length over the 16-byte address. */
struct source_range_key {
	__u32 prefixlen;
	__u32 set;
	struct addr addr;
};
ABI_ASSERT(sizeof(struct source_range_key) == 24, "source_range_key");

struct source_range {
	__u32 allowed; /* 1 */
};
ABI_ASSERT(sizeof(struct source_range) == 4, "source_range");

/* Session affinity (S42): a client and a service port, whichever frontend it came by. Good while the backend
 * stands in the frontend's run with this generation and `last_used`, the tick of the last new connection, is
 * not affinity_ticks ago. */
struct affinity_key {
	struct addr client;
	__u32 service;
	__u16 net;
	__u16 pad;
};
ABI_ASSERT(sizeof(struct affinity_key) == 24, "affinity_key");

struct affinity {
	__u32 backend;
	__u32 generation;
	__u32 last_used;
};
ABI_ASSERT(sizeof(struct affinity) == 12, "affinity");

struct backend_slot {
	struct addr addr;
	__be16 port;
	__u16 pad;
	__u32 backend; /* id, never 0 */
	__u32 generation;
	__u32 pad2;
};
ABI_ASSERT(sizeof(struct backend_slot) == 32, "backend_slot");

/* By backend id. A UDP flow whose generation is not this one is moved at its next packet (S45-S47). */
struct backend_state {
	__u32 generation;
};

#endif
