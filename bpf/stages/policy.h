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
};

/* Two lookups, no decision: the compiler made the entries disjoint. */
static __always_inline bool set_allows(__u32 set, __u32 identity, __u8 proto, __be16 port, __u32 *rule)
{
	struct policy_key key = {
		.prefixlen = POLICY_PREFIX_PORT,
		.set = bpf_htonl(set),
		.identity = bpf_htonl(identity),
		.proto = proto,
		.port = port,
	};
	struct policy_entry *entry;

	if (set == POLICY_SET_ALLOW_ALL)
		return true;
	entry = bpf_map_lookup_elem(&policies, &key);
	if (!entry) {
		key.identity = bpf_htonl(IDENTITY_ANY);
		entry = bpf_map_lookup_elem(&policies, &key);
	}
	if (!entry)
		return false;
	*rule = entry->rule;
	return entry->verdict == POLICY_ALLOW;
}

/* A global function: it judges new flows and, once more, those whose policy has changed. Needs
 * pkt->src_identity; leaves the destination's identity, the rule and, on a drop, the reason. */
__weak __noinline int judge(struct packet *pkt, struct parties *who)
{
	struct endpoint *source, *destination;
	bool itself;
	struct party dst;

	if (!pkt || !who)
		return VERDICT_DROP;
	party_find(&dst, &who->dst, who->net);
	who->dst_endpoint = pkt->dst_endpoint = dst.endpoint;
	who->dst_flags = dst.flags;
	who->dst_cidr_flags = dst.cidr_flags;
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
	itself = who->src_endpoint && who->src_endpoint == dst.endpoint; /* P15 */
	if (who->src_endpoint && !itself &&
	    !set_allows(source->egress_set, dst.identity, who->proto, who->port, &pkt->rule))
		return drop(pkt, DROP_POLICY_EGRESS);
	if (dst.endpoint && !itself && !who->own_node &&
	    !set_allows(destination->ingress_set, pkt->src_identity, who->proto, who->port, &pkt->rule))
		return drop(pkt, DROP_POLICY_INGRESS);
	return VERDICT_NEXT;
}

/* Which end began a connection that is picked up in its middle is not known: it must be allowed both ways
 * round, or one that was cut would live on by the other end's next packet (P17). */
static __always_inline enum verdict judge_reversed(struct packet *pkt, const struct parties *who)
{
	__u32 src_identity = pkt->src_identity, dst_identity = pkt->dst_identity, rule = pkt->rule;
	struct parties reversed = {
		.dst = pkt->key.saddr,
		.port = pkt->key.sport,
		.net = who->net,
		.src_endpoint = who->dst_endpoint,
		.proto = who->proto,
		.own_node = !!(who->dst_flags & ADDRESS_LOCAL_NODE),
	};
	enum verdict verdict;

	pkt->src_identity = dst_identity;
	verdict = judge(pkt, &reversed);
	if (verdict == VERDICT_NEXT)
		pkt->rule = rule;
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
	verdict = judge(pkt, &who);
	if (verdict == VERDICT_NEXT && pkt->key.proto == IPPROTO_TCP && pkt->flags & PACKET_MIDSTREAM)
		verdict = judge_reversed(pkt, &who);
	conn->src_epoch = who.src_epoch;
	conn->dst_epoch = who.dst_epoch;
	conn->dst_flags = who.dst_flags;
	conn->dst_cidr_flags = who.dst_cidr_flags;
	return verdict;
}

#endif
