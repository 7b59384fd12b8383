/* uplink: telling our own traffic on an uplink from the stack's, which passes untouched. */
#ifndef BPFNET_STAGES_UPLINK_H
#define BPFNET_STAGES_UPLINK_H

#include "bpf/connection.h"
#include "bpf/lib/host_socket.h"
#include "bpf/stages/clash.h"
#include "bpf/stages/frontend.h"
#include "bpf/verdict.h"

/* Frames for other machines, broadcasts and multicasts of the link are not ours to route. */
static __always_inline enum verdict addressed_to_us(struct __sk_buff *ctx, struct packet *pkt)
{
	return ctx->pkt_type ? pass(pkt) : VERDICT_NEXT; /* PACKET_HOST is 0 */
}

/* An unknown flow from the wire: for a pod here or for a service, or else the stack's. */
__weak __noinline int for_us(struct __sk_buff *ctx, struct packet *pkt)
{
	struct address_info *info;
	struct cidr_info *cidr;

	if (!ctx || !pkt)
		return VERDICT_DROP;
	info = address_find(&pkt->key.daddr, pkt->key.net);
	if (info && info->flags & ADDRESS_LOCAL_POD)
		return VERDICT_NEXT;
	if (is_frontend(&pkt->key, info ? info->flags : 0)) {
		if (info && info->flags & ADDRESS_LOCAL_NODE && answers_host(ctx, pkt))
			return pass(pkt);
		return VERDICT_NEXT;
	}
	if (info)
		return info->flags & ADDRESS_LOCAL_NODE && clashes_with_flow(pkt) ? VERDICT_NEXT : pass(pkt);
	/* A service range that is routed to us: what no service has is dropped or refused there. */
	cidr = cidr_find(&pkt->key.daddr, pkt->key.net);
	if (cidr && cidr->flags & CIDR_SERVICE)
		return VERDICT_NEXT;
	return concerns_live_address(pkt) ? VERDICT_NEXT : pass(pkt);
}

/* A new flow of the host's own, by its uplink: ours only when it is for a service, when a masqueraded pod holds
 * the same port towards the same peer, which the host's flow then has to leave, or when its port is published. */
__weak __noinline int host_departure(struct packet *pkt, struct connection *conn)
{
	struct address_info *info;
	struct flow_key reply;

	if (!pkt || !conn)
		return VERDICT_DROP;
	if (addr_is_multicast(&pkt->key.daddr))
		return pass(pkt);
	info = address_find(&pkt->key.daddr, pkt->key.net);
	/* No flow is made for an echo: each of its fragments is answered by itself. */
	if (pkt->flags & PACKET_MIDSTREAM)
		return !info && is_echo_request(pkt) && concerns_live_address(pkt) ? VERDICT_NEXT : pass(pkt);
	if (is_frontend(&pkt->key, info ? info->flags : 0) || (!info && concerns_live_address(pkt)))
		return VERDICT_NEXT;
	if (leaves_published_port(pkt)) {
		pkt->flags |= PACKET_HOST_OWN;
		return VERDICT_NEXT;
	}
	key_reverse(&reply, &pkt->key);
	if (!bpf_map_lookup_elem(&flows, &reply))
		return pass(pkt);
	conn->flags |= CONNECTION_SNAT_SELF;
	return VERDICT_NEXT;
}

#endif
