/* Frontends and their backends. A frontend's backends stand in a run of the slot array:
 * slot = first + hash % count. A run is never changed in place: a new one is written, the frontend is
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
};

struct frontend {
	__u32 first; /* run for clients inside: pods and host processes */
	__u32 count;
	__u32 ext_first; /* run for clients outside; the same run when no traffic policy divides them */
	__u32 ext_count;
	__u32 service; /* id of the ServicePort; names it in flows, affinity and drops */
	__u32 affinity_ticks;
	__u32 flags; /* enum frontend_flags */
	__u32 pad;
};
ABI_ASSERT(sizeof(struct frontend) == 32, "frontend");

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
