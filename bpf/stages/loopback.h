/* loopback: processes of the host that reach for a service at one of the host's own addresses never leave
 * lo. from_host runs on its egress too, takes up what is for a frontend or of a known flow, and leaves all
 * else alone. */
#ifndef BPFNET_STAGES_LOOPBACK_H
#define BPFNET_STAGES_LOOPBACK_H

#include "bpf/lib/host_socket.h"
#include "bpf/stages/clash.h"
#include "bpf/stages/frontend.h"
#include "bpf/stages/parse_any.h"
#include "bpf/verdict.h"

/* Known, or the beginning of a connection to a frontend, or from one's port: on lo every address is local. */
__weak __noinline int from_loopback(struct __sk_buff *ctx, struct packet *pkt)
{
	if (!ctx || !pkt)
		return VERDICT_DROP;
	if (pkt->kind != PACKET_TUPLE && pkt->kind != PACKET_ERROR)
		return pass(pkt);
	if (pkt->kind == PACKET_ERROR)
		return flow_find(&pkt->key) ? VERDICT_NEXT : pass(pkt);
	if (!(pkt->flags & PACKET_NO_FLOW))
		return VERDICT_NEXT;
	if (pkt->flags & PACKET_MIDSTREAM)
		return pass(pkt);
	if (is_frontend(&pkt->key, ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT))
		return answers_host(ctx, pkt) ? pass(pkt) : VERDICT_NEXT;
	if (clashes_with_flow(pkt))
		return VERDICT_NEXT;
	if (!leaves_published_port(pkt))
		return pass(pkt);
	pkt->flags |= PACKET_HOST_OWN;
	return VERDICT_NEXT;
}

/* What cannot be read is on lo none of our business. */
static __always_inline enum verdict parse_host(struct __sk_buff *ctx, struct packet *pkt)
{
	enum verdict verdict = parse(ctx, pkt);

	return verdict != VERDICT_NEXT && ctx->ifindex == LOOPBACK_IFINDEX ? pass(pkt) : verdict;
}

/* The stage; behind `established`, which has looked for the flow. */
static __always_inline enum verdict loopback(struct __sk_buff *ctx, struct packet *pkt)
{
	return ctx->ifindex == LOOPBACK_IFINDEX ? from_loopback(ctx, pkt) : VERDICT_NEXT;
}

#endif
