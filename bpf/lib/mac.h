/* Link addresses and Ethernet headers. */
#ifndef BPFNET_LIB_MAC_H
#define BPFNET_LIB_MAC_H

#include <linux/if_ether.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/maps.h"
#include "maps/abi/base.h"

static __always_inline bool mac_is_zero(const struct mac *mac)
{
	return !(mac->b[0] | mac->b[1] | mac->b[2] | mac->b[3] | mac->b[4] | mac->b[5]);
}

static __always_inline void eth_set(struct ethhdr *eth, const struct mac *dst, const struct mac *src)
{
	__builtin_memcpy(eth->h_dest, dst->b, sizeof(eth->h_dest));
	__builtin_memcpy(eth->h_source, src->b, sizeof(eth->h_source));
}

/* Byte by byte, since each read of `config` must stay a volatile one: the compiler sees only zeros there. */
static __always_inline struct mac host_mac(void)
{
	struct mac mac;

	for (__u32 i = 0; i < sizeof(mac.b); i++)
		mac.b[i] = config.host_mac.b[i];
	return mac;
}

/* Sends a frame back to where it came from. */
static __always_inline void eth_swap(struct ethhdr *eth)
{
	struct mac src;

	__builtin_memcpy(src.b, eth->h_source, sizeof(src.b));
	__builtin_memcpy(eth->h_source, eth->h_dest, sizeof(eth->h_source));
	__builtin_memcpy(eth->h_dest, src.b, sizeof(eth->h_dest));
}

#endif
