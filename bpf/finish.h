/* finish: the single exit of every hook. Counts, tells the sender, samples, and turns the verdict into what
 * the kernel wants to hear. */
#ifndef BPFNET_FINISH_H
#define BPFNET_FINISH_H

#include "bpf/lib/time.h"
#include "bpf/stages/icmp_reply.h"
#include "bpf/verdict.h"

static __always_inline void count(void *map, __u32 index, __u32 length)
{
	struct packet_count *counter = bpf_map_lookup_elem(map, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += length;
	}
}

/* Drops come at the rate of whoever sends them: what user space hears is bounded. */
static __always_inline bool event_is_due(void)
{
	struct event_budget *budget;
	__u32 zero = 0, now = tick_now();

	budget = bpf_map_lookup_elem(&event_budget, &zero);
	if (!budget)
		return false;
	if (budget->tick != now) {
		budget->tick = now;
		budget->used = 0;
	}
	return budget->used++ < config.event_rate;
}

__weak __noinline int report(struct packet *pkt, __u32 verdict, __u32 in_ifindex)
{
	struct packet_event *event;

	if (!pkt)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = bpf_ktime_get_ns();
	event->key = pkt->key;
	event->backend = pkt->backend;
	event->backend_port = pkt->backend_port;
	event->hook = pkt->hook;
	event->verdict = verdict;
	if (verdict != VERDICT_DROP && pkt->flags & PACKET_AUDITED)
		event->flags |= EVENT_AUDITED;
	event->reason = verdict == VERDICT_DROP || event->flags & EVENT_AUDITED ? pkt->reason : DROP_NONE;
	if (pkt->flags & PACKET_REVERSED &&
	    (event->reason == DROP_POLICY_EGRESS || event->reason == DROP_POLICY_INGRESS))
		event->flags |= EVENT_REVERSED;
	event->tcp_flags = pkt->tcp_flags;
	event->src_endpoint = pkt->src_endpoint;
	event->dst_endpoint = pkt->dst_endpoint;
	event->src_identity = pkt->src_identity;
	event->dst_identity = pkt->dst_identity;
	event->rule = pkt->rule;
	event->service = pkt->service;
	event->in_ifindex = in_ifindex;
	event->out_ifindex = pkt->out_ifindex;
	event->length = pkt->length;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* What ends a packet without a word. Where the host's stack sends, TC_ACT_SHOT would be told to the socket, as
 * ENOBUFS, and TCX has no other code that ends it (S31, S39): a device that does not exist takes it in silence. */
static __always_inline int discard(const struct packet *pkt)
{
	bool stack_sends = pkt->hook == HOOK_from_host || pkt->hook == HOOK_to_uplink || pkt->hook == HOOK_to_pod;

	return stack_sends ? bpf_redirect(0, 0) : TC_ACT_SHOT;
}

/* It goes its way: this is all that audit mode does in the place of a drop. */
__weak __noinline int audited(struct __sk_buff *ctx, struct packet *pkt, __u32 verdict)
{
	if (!pkt)
		return 0;
	count(&audit_counts, pkt->hook * DROP_REASONS_MAX + (pkt->reason & (DROP_REASONS_MAX - 1)), pkt->length);
	if (!config.trace && event_is_due())
		report(pkt, verdict, ctx->ifindex);
	return 0;
}

/* The packet itself becomes the answer to its sender where there is one to give. */
__weak __noinline int dropped(struct __sk_buff *ctx, struct packet *pkt)
{
	int code = TC_ACT_SHOT;

	if (!pkt)
		return TC_ACT_SHOT;
	count(&drop_counts, pkt->hook * DROP_REASONS_MAX + (pkt->reason & (DROP_REASONS_MAX - 1)), pkt->length);
	if (!config.trace && event_is_due())
		report(pkt, VERDICT_DROP, ctx->ifindex);
	if (pkt->flags & PACKET_TELL)
		code = icmp_reply(ctx, pkt);
	return code == TC_ACT_SHOT ? discard(pkt) : code;
}

static __always_inline int finish(struct __sk_buff *ctx, struct packet *pkt, enum verdict verdict)
{
	count(&verdict_counts, pkt->hook * VERDICTS_MAX + (verdict & (VERDICTS_MAX - 1)), pkt->length);
	if (config.trace)
		report(pkt, verdict, ctx->ifindex);
	if (verdict == VERDICT_DROP)
		return dropped(ctx, pkt);
	if (pkt->flags & PACKET_AUDITED)
		audited(ctx, pkt, verdict);
	return pkt->code;
}

#endif
