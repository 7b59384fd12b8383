#ifndef BPFNET_STAGES_ICMP_REPLY_H
#define BPFNET_STAGES_ICMP_REPLY_H
#include "bpf/verdict.h"
__weak __noinline int icmp_reply(struct __sk_buff *ctx, struct packet *pkt)
{
	if (!ctx || !pkt)
		return TC_ACT_SHOT;
	return TC_ACT_SHOT;
}
#endif
