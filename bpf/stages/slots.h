/* slots: a bounded store of pairs. A slot is taken before a pair is inserted and given back when it is
 * removed; the quota is charged along with it. Removal is won by whoever sets `used` from 1 to 0. */
#ifndef BPFNET_STAGES_SLOTS_H
#define BPFNET_STAGES_SLOTS_H

#include "bpf/lib/proto.h"

#include "bpf/connection.h"
#include "bpf/lib/addr.h"
#include "bpf/lib/time.h"
#include "bpf/verdict.h"

enum {
	EVICT_CHOOSE = 16, /* slots among which the readiest is chosen */
	EVICT_LOOK = 128,  /* slots that are looked at while all of them are spared */
};

static __always_inline struct flow_table *table_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&flow_table, &zero);
}

static __always_inline void usage_add(__u32 endpoint, int change)
{
	struct endpoint_usage *usage = bpf_map_lookup_elem(&endpoint_usage, &endpoint);

	if (usage)
		__sync_fetch_and_add(&usage->flows, change);
}

/* Gives a slot back that the caller owns and that is not used any more. */
static __always_inline void slot_release(__u32 index, struct flow_slot *slot)
{
	struct flow_table *table = table_get();

	if (slot->owner)
		usage_add(slot->owner, -1);
	if (table)
		__sync_fetch_and_add(&table->live, -1);
	bpf_map_push_elem(&flow_free, &index, BPF_ANY);
}

/* Removes the pair of a slot. Returns 1 if it was this call that did it. */
__weak __noinline int pair_remove(__u32 index)
{
	struct flow_slot *slot = bpf_map_lookup_elem(&flow_slots, &index);
	struct flow_key key, peer;
	struct flow *flow;

	if (!slot || !__sync_bool_compare_and_swap(&slot->used, 1, 0))
		return 0;
	key = slot->key;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow->slot == index) {
		peer = flow->peer;
		bpf_map_delete_elem(&flows, &key);
		flow = bpf_map_lookup_elem(&flows, &peer);
		if (flow && flow->slot == index)
			bpf_map_delete_elem(&flows, &peer);
	}
	slot_release(index, slot);
	return 1;
}

/* What was read of a pair that is gone says nothing of what the packet may begin. */
static __always_inline void forget_read(struct packet *pkt)
{
	pkt->flags &= ~(PACKET_AUDITED | PACKET_REVERSED);
	pkt->reason = DROP_NONE;
	pkt->src_identity = pkt->dst_identity = 0;
	pkt->src_endpoint = pkt->dst_endpoint = 0;
	pkt->rule = 0;
	pkt->service = 0;
	__builtin_memset(&pkt->backend, 0, sizeof(pkt->backend));
	pkt->backend_port = 0;
}

/* Removes the pair that the packet was of. */
static __always_inline void forget_flow(struct packet *pkt, __u32 slot)
{
	pair_remove(slot);
	forget_read(pkt);
}

/* How ready a pair is to go: the lower the sooner, SPARED never. Class before age; idle UDP and echo come
 * last, the longest idle first. */
enum { SPARED = 0xffffffff };

static __always_inline __u32 eviction_rank(const struct flow *flow, __u8 proto)
{
	__u32 idle = tick_now() - flow->last_seen;

	if (flow->state < FLOW_ESTABLISHED)
		return flow->state << 16;
	if (proto == IPPROTO_TCP)
		return SPARED;
	return (FLOW_ESTABLISHED << 16) + (0xffff - (idle > 0xffff ? 0xffff : idle));
}

struct eviction {
	__u32 slot;
	__u32 rank;
};

/* One step of the clock hand. A half-open flow will do at once; anything better than nothing after a few. */
static long evict_look(__u32 step, struct eviction *best)
{
	struct flow_table *table = table_get();
	struct flow_slot *slot;
	struct flow *flow;
	__u32 index, rank;

	if (!table || !table->high_water || (step >= EVICT_CHOOSE && best->rank != SPARED))
		return 1;
	index = __sync_fetch_and_add(&table->evict_hand, 1) % table->high_water;
	slot = bpf_map_lookup_elem(&flow_slots, &index);
	if (!slot || !slot->used)
		return 0;
	flow = bpf_map_lookup_elem(&flows, &slot->key);
	if (!flow || flow->slot != index)
		return 0;
	rank = eviction_rank(flow, slot->key.proto);
	if (rank < best->rank) {
		best->rank = rank;
		best->slot = index;
	}
	return rank == 0;
}

/* Makes room: the readiest pair of those that the hand comes by. */
__weak __noinline int evict(void)
{
	struct eviction best = { .rank = SPARED };
	struct flow_table *table = table_get();

	bpf_loop(EVICT_LOOK, evict_look, &best, 0);
	if (!table || best.rank == SPARED || !pair_remove(best.slot))
		return 0;
	__sync_fetch_and_add(&table->evicted, 1);
	return 1;
}

static __always_inline bool quota_is_used_up(__u32 owner)
{
	struct endpoint_usage *usage = bpf_map_lookup_elem(&endpoint_usage, &owner);

	return owner && config.endpoint_flow_quota && usage && usage->flows >= config.endpoint_flow_quota;
}

/* The stage: a slot for one more pair, charged to the client if it is a pod of ours. */
__weak __noinline int reserve(struct packet *pkt, struct connection *conn)
{
	struct flow_table *table = table_get();
	__u32 index = 0;

	if (!pkt || !conn || !table)
		return VERDICT_DROP;
	/* An echo reply asks for nothing; a TCP connection whose beginning was not seen is taken up as it is. */
	if (pkt->flags & PACKET_MIDSTREAM && pkt->key.proto != IPPROTO_TCP)
		return drop(pkt, DROP_NO_FLOW);
	if (quota_is_used_up(pkt->src_endpoint))
		return drop(pkt, DROP_FLOW_QUOTA);
	if (bpf_map_pop_elem(&flow_free, &index)) {
		/* Two at once may pass the mark by a step; the check below stops them. */
		if (table->high_water < config.max_flows)
			index = __sync_fetch_and_add(&table->high_water, 1);
		else if (!evict() || bpf_map_pop_elem(&flow_free, &index))
			return drop(pkt, DROP_FLOW_TABLE_FULL);
		if (index >= config.max_flows)
			return drop(pkt, DROP_FLOW_TABLE_FULL);
	}
	if (pkt->src_endpoint)
		usage_add(pkt->src_endpoint, 1);
	__sync_fetch_and_add(&table->live, 1);
	conn->slot = index;
	return VERDICT_NEXT;
}

#endif
