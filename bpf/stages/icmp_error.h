#ifndef BPFNET_STAGES_ICMP_ERROR_H
#define BPFNET_STAGES_ICMP_ERROR_H
#include "bpf/verdict.h"
static __always_inline enum verdict icmp_error(struct __sk_buff *ctx, struct packet *pkt)
{
	(void)ctx;
	if (pkt->kind != PACKET_ERROR)
		return VERDICT_NEXT;
	return drop(pkt, DROP_ICMP_UNRELATED);
}
#endif
