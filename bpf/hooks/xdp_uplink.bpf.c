/* XDP on an uplink: established connections that leave by the device they came in by, which is service traffic
 * for backends elsewhere. Everything else goes up to from_uplink, which is the complete path. */
#include "bpf/hooks/license.h"
#include "bpf/stages/turnaround.h"

SEC("xdp")
int xdp_uplink(struct xdp_md *ctx)
{
	struct packet pkt = { .hook = HOOK_xdp_uplink };
	struct flow *flow;

	if (!xdp_parse(ctx, &pkt))
		return XDP_PASS;
	flow = bpf_map_lookup_elem(&flows, &pkt.key);
	if (!flow || !turns_around(ctx, &pkt, flow) || !xdp_rewrite(ctx, &pkt, flow))
		return XDP_PASS;
	return turn_around(&pkt, flow);
}
