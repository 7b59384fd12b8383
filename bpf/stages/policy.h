/* policy: may C talk to B? Egress policy of a local source and ingress policy of a local destination, judged
 * in one pass on the tuple behind the service (P11). */
#ifndef BPFNET_STAGES_POLICY_H
#define BPFNET_STAGES_POLICY_H

#include "bpf/lib/identity.h"
#include "bpf/connection.h"
#include "bpf/verdict.h"

/* Both ends of a connection, as policy sees them. */
struct parties {
	struct addr dst;
	__be16 port; /* of the destination; 0 for echo */
	__u16 net;
	__u16 src_endpoint;
	__u8 proto;
	__u8 own_node; /* C is this node itself: always let in (P13). Its identity may differ by address */
	/* out */
	__u32 src_epoch;
	__u32 dst_epoch;
	__u16 dst_endpoint;
	__u16 dst_flags;
	__u32 dst_cidr_flags;
	/* in */
	__u8 by_service; /* V:vp was translated to B */
	__u8 pad;
	__u16 dst_node; /* out */
};

/* A pod that reaches itself by a service (A11). */
static __always_inline bool is_self(__u32 peer)
{
	return peer == IDENTITY_SELF || peer == IDENTITY_SELF6;
}

/* Two lookups, no decision: the compiler made the entries disjoint. */
static __always_inline struct policy_entry *policy_find(__u32 set, __u32 peer, const struct parties *who)
{
	struct policy_key key = {
		.prefixlen = POLICY_PREFIX_PORT,
		.set = bpf_htonl(set),
		.identity = bpf_htonl(peer),
		.proto = who->proto,
		.port = who->port,
	};
	struct policy_entry *entry = bpf_map_lookup_elem(&policies, &key);

	if (entry || is_self(peer))
		return entry;
	key.identity = bpf_htonl(IDENTITY_ANY);
	return bpf_map_lookup_elem(&policies, &key);
}

/* One direction: the policy of the endpoint whose flags these are, and what it does with whom it denies. The
 * rule that denied first is the one that is told, be it by a drop or by an audit. */
static __always_inline enum verdict obey(struct packet *pkt, const struct parties *who, __u32 set, __u32 peer,
					 __u8 flags, enum drop_reason reason)
{
	__u8 verdict = is_self(peer) && set != POLICY_SET_CLOSED ? POLICY_ALLOW : POLICY_DENY;
	struct policy_entry *entry;
	__u32 rule = 0;

	if (set == POLICY_SET_ALLOW_ALL)
		return VERDICT_NEXT;
	entry = policy_find(set, peer, who);
	if (entry) {
		verdict = entry->verdict;
		rule = entry->rule;
	}
	if (verdict != POLICY_ALLOW && verdict != POLICY_AUDIT && !(flags & ENDPOINT_AUDITED)) {
		pkt->rule = rule;
		if (flags & ENDPOINT_REJECTS)
			pkt->flags |= PACKET_TELL;
		return drop(pkt, reason);
	}
	if (pkt->flags & PACKET_AUDITED)
		return VERDICT_NEXT;
	pkt->rule = rule;
	if (verdict != POLICY_ALLOW) {
		pkt->flags |= PACKET_AUDITED;
		pkt->reason = reason;
	}
	return VERDICT_NEXT;
}

/* A global function: it judges new flows and, once more, those whose policy has changed. Needs
 * pkt->src_identity; leaves the destination's identity, the rule and, on a drop, the reason. */
__weak __noinline int judge(struct packet *pkt, struct parties *who)
{
	struct endpoint *source, *destination;
	enum verdict verdict;
	struct party dst;
	__u32 self = 0;

	if (!pkt || !who)
		return VERDICT_DROP;
	party_find(&dst, &who->dst, who->net);
	who->dst_endpoint = pkt->dst_endpoint = dst.endpoint;
	who->dst_flags = dst.flags;
	who->dst_cidr_flags = dst.cidr_flags;
	who->dst_node = dst.node;
	pkt->dst_identity = dst.identity;
	source = endpoint_find(who->src_endpoint);
	destination = endpoint_find(dst.endpoint);
	if (!source || !destination)
		return drop(pkt, DROP_NOT_CONFIGURED);
	who->src_epoch = epoch_read(source);
	who->dst_epoch = epoch_read(destination);
	if ((who->src_endpoint && source->state != ENDPOINT_OPEN) ||
	    (dst.endpoint && destination->state != ENDPOINT_OPEN))
		return drop(pkt, DROP_ENDPOINT_CLOSED);
	if (who->src_endpoint && who->src_endpoint == dst.endpoint) {
		if (!who->by_service)
			return VERDICT_NEXT; /* P15 */
		self = addr_is_v4(&who->dst) ? IDENTITY_SELF : IDENTITY_SELF6;
	}
	if (who->src_endpoint)
		RUN(obey(pkt, who, source->egress_set, self ? self : dst.identity, source->flags,
			 DROP_POLICY_EGRESS));
	if (dst.endpoint && !who->own_node)
		RUN(obey(pkt, who, destination->ingress_set, self ? self : pkt->src_identity,
			 destination->flags, DROP_POLICY_INGRESS));
	return VERDICT_NEXT;
out:
	return verdict;
}

/* Which end began a connection that is picked up in its middle is not known: it must be allowed both ways
 * round, or one that was cut would live on by the other end's next packet (P17). */
static __always_inline enum verdict judge_reversed(struct packet *pkt, const struct parties *who,
						   const struct flow_key *original)
{
	__u32 src_identity = pkt->src_identity, dst_identity = pkt->dst_identity, rule = pkt->rule;
	__u8 audited = pkt->flags & PACKET_AUDITED;
	struct parties reversed = {
		.dst = original->saddr,
		.port = original->sport,
		.net = who->net,
		.src_endpoint = who->dst_endpoint,
		.proto = who->proto,
		.own_node = !!(who->dst_flags & ADDRESS_LOCAL_NODE),
	};
	enum verdict verdict;

	pkt->src_identity = dst_identity;
	verdict = judge(pkt, &reversed);
	if (verdict == VERDICT_NEXT && (pkt->flags & PACKET_AUDITED) == audited)
		pkt->rule = rule;
	else
		pkt->flags |= PACKET_REVERSED;
	pkt->src_identity = src_identity;
	pkt->dst_identity = dst_identity;
	pkt->dst_endpoint = who->dst_endpoint;
	return verdict;
}

/* The stage, for first packets. */
__weak __noinline int policy(struct packet *pkt, struct connection *conn)
{
	struct parties who = {};
	enum verdict verdict;

	if (!pkt || !conn)
		return VERDICT_DROP;
	who.dst = conn->backend;
	who.port = conn->backend_port;
	who.net = pkt->key.net;
	who.proto = pkt->key.proto;
	who.src_endpoint = pkt->src_endpoint;
	who.own_node = !!(conn->src_flags & ADDRESS_LOCAL_NODE);
	who.by_service = !!(conn->flags & FLOW_SERVICE);
	verdict = judge(pkt, &who);
	if (verdict == VERDICT_NEXT && pkt->key.proto == IPPROTO_TCP && pkt->flags & PACKET_MIDSTREAM)
		verdict = judge_reversed(pkt, &who, &pkt->key);
	conn->src_epoch = who.src_epoch;
	conn->dst_epoch = who.dst_epoch;
	conn->dst_flags = who.dst_flags;
	conn->dst_cidr_flags = who.dst_cidr_flags;
	conn->dst_node = who.dst_node;
	return verdict;
}

#endif
