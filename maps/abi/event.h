/* Counters and events. */
#ifndef BPFNET_ABI_EVENT_H
#define BPFNET_ABI_EVENT_H

#include "maps/abi/base.h"
#include "maps/abi/flow.h"
#include "maps/abi/reasons.h"

/* Per-CPU, index hook * VERDICTS_MAX + verdict, and hook * DROP_REASONS_MAX + reason. */
struct packet_count {
	__u64 packets;
	__u64 bytes; /* L3 bytes as the packet arrived */
};
ABI_ASSERT(sizeof(struct packet_count) == 16, "packet_count");

/* Drops always (rate-limited per CPU); every packet when config.trace is set. */
struct packet_event {
	__u64 time_ns;       /* CLOCK_MONOTONIC */
	struct flow_key key; /* as the packet arrived */
	struct addr backend; /* chosen or known B, zero if none */
	__be16 backend_port;
	__u8 hook;    /* enum hook */
	__u8 verdict; /* enum verdict */
	__u8 reason;  /* enum drop_reason */
	__u8 tcp_flags;
	__u16 src_endpoint;
	__u32 src_identity;
	__u32 dst_identity;
	__u32 rule;
	__u32 service;
	__u32 in_ifindex;
	__u32 out_ifindex;
	__u32 length; /* L3 bytes */
	__u16 dst_endpoint;
	__u16 pad;
	__u32 pad2;
};
ABI_ASSERT(sizeof(struct packet_event) == 112, "packet_event");

#endif
