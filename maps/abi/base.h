/* What every ABI record is made of. These headers are C, read by the BPF programs and by C++ alike: the
 * layout exists once. __be fields are in network byte order, all others in host order. */
#ifndef BPFNET_ABI_BASE_H
#define BPFNET_ABI_BASE_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#ifdef __cplusplus
#define ABI_ASSERT static_assert
#else
#define ABI_ASSERT _Static_assert
#endif

/* What both sides compute alike. */
#define ABI_INLINE static inline __attribute__((always_inline))

/* Part of the pin path. Raised by every change of a record or a map: a newer agent then migrates. */
enum { ABI_LAYOUT_VERSION = 1 };

/* An IP address of either family; IPv4 is v4-mapped (::ffff:a.b.c.d). All zero: none, or "any". */
struct addr {
	__be32 w[4];
};
ABI_ASSERT(sizeof(struct addr) == 16, "addr");

struct mac {
	__u8 b[6];
};
ABI_ASSERT(sizeof(struct mac) == 6, "mac");

#endif
