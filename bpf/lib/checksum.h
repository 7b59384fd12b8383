/* Internet checksums, incremental (RFC 1624): a change is the one's complement sum of what was added less
 * what was taken away, gathered in 64 bits and folded once at the end. */
#ifndef BPFNET_LIB_CHECKSUM_H
#define BPFNET_LIB_CHECKSUM_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "maps/abi/base.h"

static __always_inline __u64 csum_replace32(__u64 change, __be32 from, __be32 to)
{
	return change + (__u32)~from + to;
}

static __always_inline __u64 csum_replace16(__u64 change, __be16 from, __be16 to)
{
	return change + (__u16)~from + to;
}

static __always_inline __u64 csum_replace_addr(__u64 change, const struct addr *from, const struct addr *to)
{
	change = csum_replace32(change, from->w[0], to->w[0]);
	change = csum_replace32(change, from->w[1], to->w[1]);
	change = csum_replace32(change, from->w[2], to->w[2]);
	return csum_replace32(change, from->w[3], to->w[3]);
}

/* As the kernel's helpers take a difference: 32 bits. */
static __always_inline __u32 csum_fold32(__u64 change)
{
	change = (change & 0xffffffff) + (change >> 32);
	return (change & 0xffffffff) + (change >> 32);
}

static __always_inline __u16 csum_fold16(__u64 change)
{
	change = (change & 0xffffffff) + (change >> 32);
	change = (change & 0xffff) + ((change >> 16) & 0xffff) + (change >> 32);
	change = (change & 0xffff) + (change >> 16);
	return (change & 0xffff) + (change >> 16);
}

/* A checksum field with `change` applied. */
static __always_inline __u16 csum_apply(__u16 field, __u64 change)
{
	return ~csum_fold16(change + (__u16)~field);
}

#endif
