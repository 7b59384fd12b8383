/* loopback: processes of the host that reach for a service at one of the host's own addresses never leave
 * lo. from_host runs on its egress too, takes up what is for a frontend or of a known flow, and leaves all
 * else alone. */
#ifndef BPFNET_STAGES_LOOPBACK_H
#define BPFNET_STAGES_LOOPBACK_H

#include "bpf/stages/uplink.h"
#include "bpf/verdict.h"

/* Known, or the beginning of a connection to a frontend: on lo every address is local. */
__weak __noinline int from_loopback(struct packet *pkt)
{
	if (!pkt)
		return VERDICT_DROP;
	if (pkt->kind != PACKET_TUPLE && pkt->kind != PACKET_ERROR)
		return pass(pkt);
	if (flow_find(&pkt->key))
		return VERDICT_NEXT;
	if (pkt->kind == PACKET_ERROR || pkt->flags & PACKET_MIDSTREAM || !is_frontend(&pkt->key, true))
		return pass(pkt);
	return VERDICT_NEXT;
}

/* The stage. */
static __always_inline enum verdict loopback(struct __sk_buff *ctx, struct packet *pkt)
{
	return ctx->ifindex == LOOPBACK_IFINDEX ? from_loopback(pkt) : VERDICT_NEXT;
}

#endif
