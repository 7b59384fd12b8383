/* foreign: what bpfnet does not carry. A pod may not send it; between the wire and the host's own stack it
 * passes. */
#ifndef BPFNET_STAGES_FOREIGN_H
#define BPFNET_STAGES_FOREIGN_H

#include "bpf/lib/identity.h"
#include "bpf/verdict.h"

static __always_inline enum verdict foreign_drop(struct packet *pkt)
{
	if (pkt->kind != PACKET_FOREIGN)
		return VERDICT_NEXT;
	if (pkt->family && addr_is_multicast(&pkt->key.daddr))
		return drop(pkt, DROP_MULTICAST);
	return drop(pkt, pkt->reason);
}

/* Neighbour traffic between the stack and a device is left to them. */
static __always_inline enum verdict stack_link(struct packet *pkt)
{
	return pkt->kind == PACKET_ARP || pkt->kind == PACKET_ND ? pass(pkt) : VERDICT_NEXT;
}

/* Neighbour questions of the wire belong to the stack, and so does all that is not for a pod. */
static __always_inline enum verdict foreign_pass(struct packet *pkt)
{
	struct address_info *info;

	if (pkt->kind != PACKET_FOREIGN)
		return stack_link(pkt);
	info = pkt->family ? address_find(&pkt->key.daddr, pkt->key.net) : NULL;
	if (info && info->flags & ADDRESS_LOCAL_POD)
		return drop(pkt, pkt->reason);
	return pass(pkt);
}

#endif
