/* Policy sets. endpoint -> {ingress set, egress set}; {set, identity, protocol, port prefix} -> verdict and rule.
 * A lookup is by longest prefix: first with the peer's identity, then with IDENTITY_ANY; nothing found in a
 * set other than POLICY_SET_ALLOW_ALL is a denial. The compiler makes the entries disjoint.
 *
 * A pod that reaches itself is exempt (P15), but through a service it is subject to ClusterNetworkPolicies
 * (A11): they are looked up with IDENTITY_SELF or IDENTITY_SELF6 and nothing else, and nothing found allows. */
#ifndef BPFNET_ABI_POLICY_H
#define BPFNET_ABI_POLICY_H

#include "maps/abi/base.h"

enum {
	POLICY_SET_ALLOW_ALL = 0, /* not isolated in that direction */
	POLICY_SET_DENY_ALL = 1,  /* no entry is ever written for it */
	POLICY_SET_CLOSED = 2,    /* nor for this: the stand-in of a set without room. Denies a pod itself, too */
	POLICY_SET_FIRST = 16,
};

enum identity_reserved {
	IDENTITY_ANY = 0,         /* in policy keys: every identity */
	IDENTITY_HOST = 1,        /* this node's own addresses */
	IDENTITY_REMOTE_NODE = 2,
	IDENTITY_WORLD = 3,       /* matched by no pod, node or CIDR of a policy */
	IDENTITY_SELF = 4,        /* in policy keys: the pod itself, by a service (A11), over IPv4 */
	IDENTITY_SELF6 = 5,       /* the same over IPv6: `networks` may hold one address of a pod and not the other */
	IDENTITY_FIRST = 256,
};

/* Prefix lengths in bits: any protocol, one protocol with any port, one port; between the last two: the
 * leading bits of the port. */
enum {
	POLICY_PREFIX_IDENTITY = 64,
	POLICY_PREFIX_PROTO = 80,
	POLICY_PREFIX_PORT = 96,
};

struct policy_key {
	__u32 prefixlen;
	__be32 set;
	__be32 identity;
	__u8 proto;
	__u8 pad;
	__be16 port;
};
ABI_ASSERT(sizeof(struct policy_key) == 16, "policy_key");

enum policy_verdict {
	POLICY_DENY = 0,
	POLICY_ALLOW = 1,
	POLICY_AUDIT = 2, /* let through, and an event tells that a policy in audit mode denies it */
};

struct policy_entry {
	__u32 rule; /* id of the rule, see `bpfnetctl policy list`; AUDIT: the one that would deny, 0: no rule allows */
	__u8 verdict;
	__u8 pad[3];
};
ABI_ASSERT(sizeof(struct policy_entry) == 8, "policy_entry");

#endif
