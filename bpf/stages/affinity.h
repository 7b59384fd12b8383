/* affinity: a client of a service comes back to the backend that it had last time (S42-S44). Every new
 * connection asks and refreshes, packets of one do not. */
#ifndef BPFNET_STAGES_AFFINITY_H
#define BPFNET_STAGES_AFFINITY_H

#include "bpf/lib/time.h"
#include "bpf/packet.h"

/* Halvings: enough for a run of a million backends. */
enum { AFFINITY_STEPS = 20 };

static __always_inline void affinity_key_of(struct affinity_key *key, const struct packet *pkt)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->client = pkt->key.saddr;
	key->service = pkt->service;
	key->net = pkt->key.net;
}

/* The slot of a backend, or -1. Runs stand in the order of backend ids. */
static __always_inline int run_find(__u32 first, __u32 count, __u32 backend, __u32 generation)
{
	__u32 low = 0, high = count;

	for (int i = 0; i < AFFINITY_STEPS && low < high; i++) {
		__u32 middle = low + (high - low) / 2, index = first + middle;
		struct backend_slot *slot = bpf_map_lookup_elem(&backend_slots, &index);

		if (!slot)
			return -1;
		if (slot->backend == backend)
			return slot->generation == generation ? (int)index : -1;
		if (slot->backend < backend)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

/* The slot that the client of pkt->service is to use, or -1: any. `ticks`: the timeout. */
__weak __noinline int affinity_find(struct packet *pkt, __u32 first, __u32 count, __u32 ticks)
{
	struct affinity *record;
	struct affinity_key key;
	int slot;

	if (!pkt)
		return -1;
	affinity_key_of(&key, pkt);
	record = bpf_map_lookup_elem(&affinities, &key);
	/* A tick is counted to its end: no record is forgotten early. */
	if (!record || tick_now() - record->last_used > ticks)
		return -1;
	slot = run_find(first, count, record->backend, record->generation);
	if (slot >= 0)
		record->last_used = tick_now();
	return slot;
}

__weak __noinline int affinity_remember(struct packet *pkt, __u32 backend, __u32 generation)
{
	struct affinity record = { .backend = backend, .generation = generation, .last_used = tick_now() };
	struct affinity_key key;

	if (!pkt)
		return 0;
	affinity_key_of(&key, pkt);
	return bpf_map_update_elem(&affinities, &key, &record, BPF_ANY);
}

#endif
