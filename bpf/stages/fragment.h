/* Fragments. Only the first has ports; it leaves them here for those that come after it. When a later one
 * comes before it, the whole datagram goes to the defragmenter (defragment.h). */
#ifndef BPFNET_STAGES_FRAGMENT_H
#define BPFNET_STAGES_FRAGMENT_H

#include "bpf/lib/time.h"
#include "bpf/verdict.h"

static __always_inline void fragment_key_of(struct fragment_key *key, const struct packet *pkt, __be32 id)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->saddr = pkt->key.saddr;
	key->daddr = pkt->key.daddr;
	key->id = id;
	key->net = pkt->key.net;
	key->proto = pkt->key.proto;
}

static __always_inline bool fragment_is_current(const struct fragment *record)
{
	return tick_now() - record->tick < FRAGMENT_TICKS;
}

/* Not one that can be taken on by itself; hooks decide. The host's own may well come in another order. */
static __always_inline enum verdict fragment_waits(struct packet *pkt, __be32 id)
{
	pkt->kind = PACKET_FOREIGN;
	pkt->reason = DROP_FRAGMENT_UNKNOWN;
	pkt->fragment_id = id;
	return VERDICT_NEXT;
}

/* The first one. If others were before it, it must follow them; those that come back are in order. */
static __always_inline enum verdict fragment_first(struct packet *pkt, __be32 id)
{
	struct fragment known = {
		.tick = tick_now(),
		.sport = pkt->key.sport,
		.dport = pkt->key.dport,
	};
	struct fragment_key key;
	struct fragment *record;

	fragment_key_of(&key, pkt, id);
	if (config.defrag_ifindex && pkt->hook != HOOK_from_defrag) {
		record = bpf_map_lookup_elem(&fragments, &key);
		if (record && record->state == FRAGMENT_SLOW && fragment_is_current(record))
			return fragment_waits(pkt, id);
	}
	bpf_map_update_elem(&fragments, &key, &known, BPF_ANY);
	return VERDICT_NEXT;
}

static __always_inline enum verdict fragment_later(struct packet *pkt, __be32 id)
{
	struct fragment_key key;
	struct fragment *record;

	fragment_key_of(&key, pkt, id);
	record = bpf_map_lookup_elem(&fragments, &key);
	if (!record || record->state != FRAGMENT_KNOWN || !fragment_is_current(record))
		return fragment_waits(pkt, id);
	pkt->key.sport = record->sport;
	pkt->key.dport = record->dport;
	pkt->flags |= PACKET_LATER_FRAGMENT | PACKET_MIDSTREAM;
	return VERDICT_NEXT;
}

#endif
