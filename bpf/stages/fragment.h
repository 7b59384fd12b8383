/* Fragments. Only the first has ports; it leaves them here for those that come after it. */
#ifndef BPFNET_STAGES_FRAGMENT_H
#define BPFNET_STAGES_FRAGMENT_H

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

static __always_inline void fragment_remember(const struct packet *pkt, __be32 id)
{
	struct fragment_ports ports = { .sport = pkt->key.sport, .dport = pkt->key.dport };
	struct fragment_key key;

	fragment_key_of(&key, pkt, id);
	bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
}

static __always_inline enum verdict fragment_find(struct packet *pkt, __be32 id)
{
	struct fragment_ports *ports;
	struct fragment_key key;

	fragment_key_of(&key, pkt, id);
	ports = bpf_map_lookup_elem(&fragments, &key);
	if (!ports) {
		/* The host's own datagrams may well arrive in another order: hooks decide. */
		pkt->kind = PACKET_FOREIGN;
		pkt->reason = DROP_FRAGMENT_UNKNOWN;
		return VERDICT_NEXT;
	}
	pkt->key.sport = ports->sport;
	pkt->key.dport = ports->dport;
	pkt->flags |= PACKET_LATER_FRAGMENT | PACKET_MIDSTREAM;
	return VERDICT_NEXT;
}

#endif
