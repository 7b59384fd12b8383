/* Who an address is. */
#ifndef BPFNET_LIB_IDENTITY_H
#define BPFNET_LIB_IDENTITY_H

#include "bpf/lib/addr.h"
#include "bpf/maps.h"

static __always_inline struct address_info *address_find(const struct addr *addr, __u16 net)
{
	struct address_key key = { .addr = *addr, .net = net };

	return bpf_map_lookup_elem(&addresses, &key);
}

/* enum address_flags; loopback is the node's too. */
static __always_inline __u16 address_flags_find(const struct addr *addr, __u16 net)
{
	struct address_info *info = address_find(addr, net);

	if (info)
		return info->flags;
	return addr_is_loopback(addr) ? ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT : 0;
}

static __always_inline struct cidr_info *cidr_find(const struct addr *addr, __u16 net)
{
	struct cidr_key key = { .prefixlen = 32 + 128, .net = net, .addr = *addr };

	return bpf_map_lookup_elem(&cidrs, &key);
}

/* For global functions: the verifier of 6.1 takes no key that lies in an argument's memory. */
static __always_inline struct flow *flow_find(const struct flow_key *tuple)
{
	struct flow_key key = *tuple;

	return bpf_map_lookup_elem(&flows, &key);
}

/* Which uplink speaks for the node is known late, or changes: rodata does not tell. 0: none. */
static __always_inline __u32 primary_uplink_find(void)
{
	struct datapath_config *now;
	__u32 zero = 0;

	now = bpf_map_lookup_elem(&node_config, &zero);
	return now ? now->primary_uplink : 0;
}

static __always_inline struct endpoint *endpoint_find(__u16 index)
{
	__u32 i = index;

	return bpf_map_lookup_elem(&endpoints, &i);
}

/* Read before the sets that it stands for: they are written before it, in place, see EndpointRecords::put. */
static __always_inline __u32 epoch_read(const struct endpoint *endpoint)
{
	__u32 epoch = *(const volatile __u32 *)&endpoint->epoch;

	barrier();
	return epoch;
}

/* All that is known of an address; everything zero but the identity when nothing is. */
struct party {
	__u32 identity;
	__u32 cidr_flags; /* enum cidr_flags; only of addresses that are not known exactly */
	__u16 endpoint;
	__u16 flags; /* enum address_flags */
	__u16 node;  /* the other node that has it, or whose pod does; 0: none */
	__u16 pad;
};

static __always_inline void party_find(struct party *party, const struct addr *addr, __u16 net)
{
	struct address_info *info = address_find(addr, net);
	struct cidr_info *cidr;

	__builtin_memset(party, 0, sizeof(*party));
	party->identity = IDENTITY_WORLD;
	if (info) {
		party->identity = info->identity;
		party->flags = info->flags;
		party->node = info->node;
		if (info->flags & ADDRESS_LOCAL_POD)
			party->endpoint = info->endpoint;
		return;
	}
	if (addr_is_loopback(addr)) {
		party->identity = IDENTITY_HOST;
		party->flags = ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT;
		return;
	}
	cidr = cidr_find(addr, net);
	if (cidr) {
		party->cidr_flags = cidr->flags;
		party->node = cidr->node;
		if (cidr->identity)
			party->identity = cidr->identity;
	}
}

#endif
