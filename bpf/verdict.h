/* What a stage says of a packet, and how a hook runs its stages. */
#ifndef BPFNET_VERDICT_H
#define BPFNET_VERDICT_H

#include "bpf/packet.h"

/* Runs one stage; anything but VERDICT_NEXT ends the list. */
#define RUN(stage)                             \
	do {                                   \
		verdict = (stage);             \
		if (verdict != VERDICT_NEXT)   \
			goto out;              \
	} while (0)

static __always_inline enum verdict drop(struct packet *pkt, enum drop_reason reason)
{
	pkt->reason = reason;
	return VERDICT_DROP;
}

/* A drop whose sender is told by an ICMP error. */
static __always_inline enum verdict reject(struct packet *pkt, enum drop_reason reason)
{
	pkt->flags |= PACKET_TELL;
	return drop(pkt, reason);
}

/* Left to the kernel as it is. */
static __always_inline enum verdict pass(struct packet *pkt)
{
	pkt->code = TC_ACT_OK;
	return VERDICT_PASS;
}

/* What is the host's own and is only to become known passes also where there is no room to know it. */
static __always_inline enum verdict host_own_passes(struct packet *pkt, enum verdict verdict)
{
	return verdict == VERDICT_DROP && pkt->flags & PACKET_HOST_OWN ? pass(pkt) : verdict;
}

#endif
