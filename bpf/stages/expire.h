/* expire: one run of the timer. It looks at a bounded number of slots and goes on there the next time. */
#ifndef BPFNET_STAGES_EXPIRE_H
#define BPFNET_STAGES_EXPIRE_H

#include "bpf/lib/proto.h"

#include "bpf/stages/slots.h"

enum {
	EXPIRE_CLOCK = 1, /* CLOCK_MONOTONIC */
	EXPIRE_BUSY = -16,
	EXPIRE_SLOTS = 4096, /* a run */
	EXPIRE_INTERVAL_NS = 100 * 1000 * 1000,
};

/* Ticks a pair may be idle. */
static __always_inline __u32 flow_timeout(const struct flow *flow, __u8 proto)
{
	if (proto == IPPROTO_TCP) {
		switch (flow->state) {
		case FLOW_ESTABLISHED:
			return config.timeout_tcp_established;
		case FLOW_CLOSING:
			return config.timeout_tcp_closing;
		case FLOW_CLOSED:
			return config.timeout_tcp_closed;
		default:
			return config.timeout_tcp_new;
		}
	}
	if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		return config.timeout_icmp;
	return flow->state == FLOW_ESTABLISHED ? config.timeout_udp_established : config.timeout_udp_new;
}

static __always_inline bool pair_is_expired(__u32 index, const struct flow_slot *slot, __u32 now)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot->key), *peer;
	__u32 timeout;

	if (!flow || flow->slot != index)
		return true; /* half a pair: its other half goes too */
	timeout = flow_timeout(flow, slot->key.proto);
	/* Differences are signed: a packet may have come since `now` was read. */
	if ((__s32)(now - flow->last_seen) <= (__s32)timeout)
		return false;
	peer = bpf_map_lookup_elem(&flows, &flow->peer);
	return !peer || (__s32)(now - peer->last_seen) > (__s32)timeout;
}

static long expire_slot(__u32 turn, void *unused)
{
	struct flow_table *table = table_get();
	struct flow_slot *slot;
	__u32 index;

	(void)turn;
	(void)unused;
	if (!table)
		return 1;
	index = table->gc_cursor++;
	if (index >= table->high_water) {
		table->gc_cursor = 0; /* a round is done; the rest of this run has nothing to add */
		return 1;
	}
	slot = bpf_map_lookup_elem(&flow_slots, &index);
	if (slot && slot->used && pair_is_expired(index, slot, tick_now()) && pair_remove(index))
		__sync_fetch_and_add(&table->expired, 1);
	return 0;
}

static int expire(void *map, __u32 *key, struct flow_table *table)
{
	(void)map;
	(void)key;
	table->tick = tick_now();
	table->gc_runs++;
	bpf_loop(EXPIRE_SLOTS, expire_slot, NULL, 0);
	bpf_timer_start(&table->timer, EXPIRE_INTERVAL_NS, 0);
	return 0;
}

#endif
