/* loopback: processes of the host that reach for a service at one of the host's own addresses never leave
 * lo. They are sent on to our host device, whose from_host then sees them as it sees all others. */
#ifndef BPFNET_STAGES_LOOPBACK_H
#define BPFNET_STAGES_LOOPBACK_H

#include "bpf/stages/deliver.h"
#include "bpf/stages/route.h"
#include "bpf/stages/uplink.h"
#include "bpf/verdict.h"

/* Larger than our device carries: the sender is told, as by any other link. lo itself carries 64 KB. */
static __always_inline bool too_big_for_router(struct __sk_buff *ctx, struct packet *pkt)
{
	__u32 ifindex = config.host_ifindex;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ifindex);

	if (ctx->gso_size || !interface || !interface->mtu || pkt->length <= interface->mtu)
		return false;
	pkt->mtu = interface->mtu;
	return true;
}

/* Known, or the beginning of a connection to a frontend. Later fragments may outrun the flow's creation. */
static __always_inline bool is_for_service(const struct packet *pkt)
{
	if (flow_find(&pkt->key))
		return true;
	if (pkt->kind != PACKET_TUPLE || (pkt->flags & PACKET_MIDSTREAM && !(pkt->flags & PACKET_LATER_FRAGMENT)))
		return false;
	return is_frontend(&pkt->key, true);
}

__weak __noinline int from_loopback(struct __sk_buff *ctx, struct packet *pkt)
{
	void *data, *end;
	struct mac mac;

	if (!pkt)
		return VERDICT_DROP;
	if (pkt->kind != PACKET_TUPLE && pkt->kind != PACKET_ERROR)
		return pass(pkt);
	if (!is_for_service(pkt))
		return pass(pkt);
	if (too_big_for_router(ctx, pkt))
		return reject(pkt, DROP_TOO_BIG);
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
