/* Counters and events. */
#ifndef BPFNET_ABI_EVENT_H
#define BPFNET_ABI_EVENT_H

#include "maps/abi/base.h"
#include "maps/abi/flow.h"
#include "maps/abi/reasons.h"

/* Per-CPU, index hook * VERDICTS_MAX + verdict, and hook * DROP_REASONS_MAX + reason of drops and audits. */
struct packet_count {
	__u64 packets;
	__u64 bytes; /* L3 bytes as the packet arrived */
};
ABI_ASSERT(sizeof(struct packet_count) == 16, "packet_count");

enum event_flags {
	/* Policy in audit mode let it through: `reason` and `rule` are what it would have been dropped by. */
	EVENT_AUDITED = 1 << 0,
	/* Judged as of a connection that the receiver began: the direction in `reason` is the connection's, so
	 * that egress is the receiver's. All else is the packet's, as always. */
	EVENT_REVERSED = 1 << 1,
};

/* Drops and audits always (rate-limited per CPU); every packet when config.trace is set. */
struct packet_event {
	__u64 time_ns;       /* CLOCK_MONOTONIC */
	struct flow_key key; /* as the packet arrived */
	struct addr backend; /* chosen or known B, zero if none */
	__be16 backend_port;
	__u8 hook;    /* enum hook */
	__u8 verdict; /* enum verdict */
	__u8 reason;  /* enum drop_reason */
	__u8 tcp_flags;
	__u16 src_endpoint; /* of the packet's sender */
	__u32 src_identity;
	__u32 dst_identity;
	__u32 rule; /* of policy: which denied it, 0: none allows it; of a packet that passed: which allowed it */
	__u32 service;
	__u32 in_ifindex;
	__u32 out_ifindex;
	__u32 length; /* L3 bytes */
	__u16 dst_endpoint;
	__u8 flags; /* enum event_flags */
	__u8 pad;
	__u32 pad2;
};
ABI_ASSERT(sizeof(struct packet_event) == 112, "packet_event");

#endif
