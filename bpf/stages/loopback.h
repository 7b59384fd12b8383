/* loopback: processes of the host that reach for a service at one of the host's own addresses never leave
 * lo. They are sent on to our host device, whose from_host then sees them as it sees all others. */
#ifndef BPFNET_STAGES_LOOPBACK_H
#define BPFNET_STAGES_LOOPBACK_H

#include "bpf/stages/deliver.h"
#include "bpf/stages/route.h"
#include "bpf/stages/uplink.h"
#include "bpf/verdict.h"

__weak __noinline int from_loopback(struct __sk_buff *ctx, struct packet *pkt)
{
	void *data, *end;
	struct mac mac;

	if (!pkt)
		return VERDICT_DROP;
	if (pkt->kind != PACKET_TUPLE && pkt->kind != PACKET_ERROR)
		return pass(pkt);
	if (!flow_find(&pkt->key) &&
	    (pkt->kind != PACKET_TUPLE || pkt->flags & PACKET_MIDSTREAM || !is_frontend(&pkt->key, true)))
		return pass(pkt);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN > end)
		return drop(pkt, DROP_TRUNCATED);
	mac = host_mac();
	eth_set(data, &mac, &mac);
	pkt->code = bpf_redirect(config.host_ifindex, 0);
	return VERDICT_PASS;
}

/* The stage. */
static __always_inline enum verdict loopback(struct __sk_buff *ctx, struct packet *pkt)
{
	return ctx->ifindex == LOOPBACK_IFINDEX ? from_loopback(ctx, pkt) : VERDICT_NEXT;
}

#endif
