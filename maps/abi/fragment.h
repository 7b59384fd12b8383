/* Ports of a datagram whose first fragment went by: later fragments carry none. */
#ifndef BPFNET_ABI_FRAGMENT_H
#define BPFNET_ABI_FRAGMENT_H

#include "maps/abi/base.h"

struct fragment_key {
	struct addr saddr;
	struct addr daddr;
	__be32 id; /* IPv4: the 16-bit identification, zero-extended */
	__u16 net;
	__u8 proto;
	__u8 pad;
};
ABI_ASSERT(sizeof(struct fragment_key) == 40, "fragment_key");

/* As in the flow key: echo has its identifier in one of them. */
struct fragment_ports {
	__be16 sport;
	__be16 dport;
};
ABI_ASSERT(sizeof(struct fragment_ports) == 4, "fragment_ports");

#endif
