/* Fragments: only the first of a datagram has ports, it leaves them here for those that come after it. */
#ifndef BPFNET_ABI_FRAGMENT_H
#define BPFNET_ABI_FRAGMENT_H

#include "maps/abi/base.h"

enum fragment_kind {
	FRAGMENT_DATAGRAM = 0, /* one datagram */
	FRAGMENT_SOURCE = 1,   /* a sender of fragments out of order: daddr, id and proto are 0 */
};

struct fragment_key {
	struct addr saddr;
	struct addr daddr;
	__be32 id; /* IPv4: the 16-bit identification, zero-extended */
	__u16 net;
	__u8 proto;
	__u8 kind; /* enum fragment_kind */
};
ABI_ASSERT(sizeof(struct fragment_key) == 40, "fragment_key");

enum fragment_state {
	FRAGMENT_KNOWN = 0, /* the first one was seen: sport and dport as in the flow key */
	FRAGMENT_SLOW = 1,  /* a later one came before it: all of them go to the defragmenter */
};

struct fragment {
	__u32 tick;    /* of the record: it is good for FRAGMENT_TICKS */
	__u32 ifindex; /* FRAGMENT_SOURCE: the device the sender is behind */
	__be16 sport;
	__be16 dport;
	__u16 open;    /* FRAGMENT_SOURCE: fragments that the defragmenter has not given back */
	__u8 state;    /* enum fragment_state */
	__u8 pad;
};
ABI_ASSERT(sizeof(struct fragment) == 16, "fragment");

/* An identification comes again soon enough: what is older than this belongs to another datagram. */
enum { FRAGMENT_TICKS = 4 };

/* Of one sender, at a time: a fraction of what the defragmenter has room for. */
enum { FRAGMENTS_OPEN_MAX = 512 };

#endif
