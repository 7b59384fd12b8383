/* create: the pair of a new connection. The reply tuple goes in first and claims the port: whoever finds it
 * taken tries another. */
#ifndef BPFNET_STAGES_CREATE_H
#define BPFNET_STAGES_CREATE_H

#include "bpf/lib/proto.h"

#include "bpf/lib/mac.h"
#include "bpf/stages/clash.h"
#include "bpf/stages/route.h"
#include "bpf/stages/slots.h"
#include "bpf/verdict.h"

enum {
	PORT_TRIES = 16,
	PORT_TRIES_RANDOM = 8, /* the rest are the last one's neighbours: a range of a few ports is gone through */
	ERR_EXIST = -17,
	ERR_NOMEM = -12,
	ERR_2BIG = -7,
};

static __always_inline __be16 random_port(void)
{
	__u32 span = config.masquerade_port_last - config.masquerade_port_first + 1u;

	return bpf_htons(config.masquerade_port_first + bpf_get_prandom_u32() % (span ? span : 1));
}

static __always_inline __be16 port_after(__be16 port)
{
	__u32 next = bpf_ntohs(port) + 1;

	return bpf_htons(next > config.masquerade_port_last ? config.masquerade_port_first : next);
}

/* The tuple under which the other side answers. An echo keeps its identifier in the destination port. */
static __always_inline void reply_key(struct flow_key *reply, const struct packet *pkt,
				      const struct connection *conn, __be16 nat_port)
{
	reply->saddr = conn->backend;
	reply->daddr = conn->nat;
	reply->sport = conn->backend_port;
	reply->dport = nat_port;
	reply->proto = pkt->key.proto;
	reply->pad = 0;
	reply->net = pkt->key.net;
}

/* Where answers go: to C, which is a pod here, the host, or somewhere out there. */
static __always_inline void reply_route(struct __sk_buff *ctx, const struct packet *pkt,
					const struct connection *conn, struct flow *reply)
{
	struct endpoint *client = endpoint_find(pkt->src_endpoint);

	__builtin_memset(&reply->smac, 0, sizeof(reply->smac));
	__builtin_memset(&reply->dmac, 0, sizeof(reply->dmac));
	reply->mtu = 0;
	reply->out_node = 0;
	if (pkt->src_endpoint && client) {
		reply->action = FLOW_TO_ENDPOINT;
		reply->out_ifindex = client->ifindex;
		reply->smac = client->host_mac;
		reply->dmac = client->mac;
		reply->mtu = client->mtu;
	} else if (conn->src_flags & ADDRESS_LOCAL_NODE) {
		reply->action = FLOW_TO_HOST;
		reply->out_ifindex = config.host_ifindex;
		/* Also what left for an address that no route of ours leads to: our device has no address, and there
		 * even a loose reverse path check refuses such a source. */
		if (conn->v_local || pkt->hook == HOOK_to_uplink)
			reply->out_ifindex = LOOPBACK_IFINDEX;
		/* What left by an uplink is expected back from it. */
		if (!conn->v_local && pkt->hook == HOOK_to_uplink && conn->action == FLOW_TO_NEXT_HOP)
			reply->out_ifindex = 0;
		if (pkt->flags & PACKET_HOST_OWN)
			reply->out_ifindex = 0;
		if (reply->out_ifindex == config.host_ifindex) {
			reply->smac = reply->dmac = host_mac();
		}
	} else if (pkt->hook == HOOK_from_overlay) {
		flow_lead(reply, pkt->node);
	} else {
		/* Resolved by the first answer. */
		reply->action = FLOW_TO_NEXT_HOP;
		reply->out_ifindex = ctx->ifindex;
	}
	reply->in_ifindex = conn->action == FLOW_TO_ENDPOINT ? conn->out_ifindex : 0;
	reply->in_node = conn->out_node;
}

/* What both entries have in common. */
static __always_inline void flow_fill(struct flow *flow, const struct packet *pkt, const struct connection *conn)
{
	__u32 now = tick_now();

	flow->slot = conn->slot;
	flow->last_seen = now - 1; /* the first packet refreshes the neighbour */
	flow->created = now;
	flow->state = FLOW_NEW;
	flow->src_endpoint = pkt->src_endpoint;
	flow->dst_endpoint = pkt->dst_endpoint;
	flow->src_epoch = conn->src_epoch;
	flow->dst_epoch = conn->dst_epoch;
	flow->rule = pkt->rule;
	flow->flags = conn->flags & (FLOW_MASQUERADED | FLOW_SERVICE | FLOW_HAIRPIN);
	if (conn->flags & (FLOW_MASQUERADED | FLOW_SERVICE | CONNECTION_SNAT_SELF))
		flow->flags |= FLOW_TRANSLATED;
	if (pkt->flags & PACKET_AUDITED)
		flow->flags |= FLOW_AUDITED;
	if (pkt->flags & PACKET_MIDSTREAM)
		flow->flags |= FLOW_PICKED_UP;
	if (conn->flags & FLOW_SERVICE) {
		flow->backend = conn->backend_id;
		flow->backend_generation = conn->generation;
		flow->service = pkt->service;
	}
}

/* `error` is an int wherever it comes from an update: kernels before 6.4 give it without the sign of its upper half. */
static __always_inline enum verdict insert_failed(struct packet *pkt, int error)
{
	return drop(pkt, error == ERR_2BIG ? DROP_FLOW_TABLE_FULL : DROP_NO_MEMORY);
}

/* Claims a reply tuple; on success conn->nat_port is the port N answers at and conn->reply the key. */
static __always_inline enum verdict claim(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn)
{
	/* The host's own flow whose port is known to be taken must move, a masqueraded one is random at once. */
	bool random = conn->flags & (FLOW_MASQUERADED | CONNECTION_SNAT_SELF);
	int error;

	conn->flow.peer = pkt->key;
	for (int i = 0; i < PORT_TRIES; i++) {
		if (random)
			conn->nat_port = i < PORT_TRIES_RANDOM ? random_port() : port_after(conn->nat_port);
		reply_key(&conn->reply, pkt, conn, conn->nat_port);
		if (!clashes_with_socket(ctx, conn, random)) {
			if (conn->nat_port != pkt->key.sport)
				conn->flow.flags |= FLOW_MASQUERADED | FLOW_TRANSLATED;
			error = bpf_map_update_elem(&flows, &conn->reply, &conn->flow, BPF_NOEXIST);
			if (!error)
				return VERDICT_NEXT;
			if (error != ERR_EXIST)
				return insert_failed(pkt, error);
		}
		if (pkt->flags & PACKET_MIDSTREAM)
			return drop(pkt, DROP_NO_FLOW);
		if (pkt->flags & PACKET_HOST_OWN)
			return drop(pkt, DROP_NO_PORT);
		random = true;
	}
	return drop(pkt, DROP_NO_PORT);
}

/* PASS: another CPU was first with a packet of the same connection, its pair serves. */
static __always_inline enum verdict pair_insert(struct __sk_buff *ctx, struct packet *pkt, struct connection *conn,
						const struct flow_slot *slot)
{
	struct flow *flow = &conn->flow;
	enum verdict verdict;
	int error;

	flow_fill(flow, pkt, conn);
	flow->flags |= FLOW_IS_REPLY;
	reply_route(ctx, pkt, conn, flow);
	RUN(claim(ctx, pkt, conn));
	/* The same record becomes the original entry. */
	flow->peer = conn->reply;
	flow->flags &= ~FLOW_IS_REPLY;
	flow->action = conn->action;
	flow->in_ifindex = pkt->src_endpoint ? ctx->ifindex : 0;
	flow->in_node = pkt->node;
	flow->out_node = conn->out_node;
	flow->out_ifindex = conn->out_ifindex;
	flow->smac = conn->smac;
	flow->dmac = conn->dmac;
	flow->mtu = conn->mtu;
	error = bpf_map_update_elem(&flows, &slot->key, flow, BPF_NOEXIST);
	if (error) {
		bpf_map_delete_elem(&flows, &conn->reply);
		return error == ERR_EXIST ? VERDICT_PASS : insert_failed(pkt, error);
	}
out:
	return verdict;
}

/* The stage. It takes the connection from its map: the verifier of 6.1 lets no argument's memory be a map's
 * key or value. */
__weak __noinline int create(struct __sk_buff *ctx, struct packet *pkt)
{
	struct connection *conn = connection_get();
	enum verdict verdict;
	struct flow_slot *slot;
	__u32 index;

	if (!pkt || !conn)
		return VERDICT_DROP;
	index = conn->slot;
	slot = bpf_map_lookup_elem(&flow_slots, &index);
	if (!slot)
		return drop(pkt, DROP_NOT_CONFIGURED);
	slot->key = pkt->key;
	slot->owner = pkt->src_endpoint;
	verdict = pair_insert(ctx, pkt, conn, slot);
	if (verdict != VERDICT_NEXT)
		slot_release(index, slot);
	else
		slot->used = 1;
	return verdict == VERDICT_PASS ? VERDICT_NEXT : verdict;
}

#endif
