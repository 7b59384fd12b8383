/* XDP on an uplink. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/hooks/license.h"

SEC("xdp")
int xdp_uplink(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}
