/* One table for each list of names. CLI, metrics and documents are made from them. Numbers are
 * append-only: they travel in events and in counters of running nodes. */
#ifndef BPFNET_ABI_REASONS_H
#define BPFNET_ABI_REASONS_H

/* X(number, NAME, "label", "one sentence") */
#define DROP_REASONS(X)                                                                                       \
	X(0, NONE, "none", "Not dropped.")                                                                    \
	X(1, TRUNCATED, "truncated", "The packet ends before a header it announces.")                         \
	X(2, BAD_HEADER, "bad-header", "A header field contradicts the packet or its protocol.")              \
	X(3, UNKNOWN_L3, "unknown-l3", "The Ethernet type is neither IPv4, IPv6 nor ARP.")                    \
	X(4, UNKNOWN_L4, "unknown-l4", "A transport protocol which bpfnet does not track.")                   \
	X(5, SPOOFED, "spoofed", "A pod, or a node by the overlay, sent from an address that is not its own.") \
	X(6, ENDPOINT_CLOSED, "endpoint-closed", "The pod's policy is not in place yet.")                     \
	X(7, POLICY_EGRESS, "policy-egress", "Egress policy of the source allows no such connection.")        \
	X(8, POLICY_INGRESS, "policy-ingress", "Ingress policy of the destination allows no such connection.") \
	X(9, NO_BACKEND, "no-backend", "The service has no usable backend.")                                  \
	X(10, NO_LOCAL_BACKEND, "no-local-backend", "The traffic policy is Local and no backend is here.")    \
	X(11, NO_SERVICE, "no-service", "No service owns that address and port of a service range.")          \
	X(12, NO_FLOW, "no-flow", "A packet inside a connection that is not in the flow table.")              \
	X(13, NO_ROUTE, "no-route", "The node has no route to the destination.")                              \
	X(14, NO_NEIGHBOUR, "no-neighbour", "The next hop's link address is unknown.")                        \
	X(15, TTL_EXCEEDED, "ttl-exceeded", "The hop limit ran out here; the sender was told.")               \
	X(16, TOO_BIG, "too-big", "Larger than the path allows; the sender was told.")                        \
	X(17, FLOW_TABLE_FULL, "flow-table-full", "No flow could be evicted to make room.")                   \
	X(18, FLOW_QUOTA, "flow-quota", "The pod holds as many flows as it may.")                             \
	X(19, NO_PORT, "no-port", "No free port was found to masquerade the connection.")                     \
	X(20, FRAGMENT_UNKNOWN, "fragment-unknown", "A later fragment whose first one was not seen.")         \
	X(21, ICMP_UNRELATED, "icmp-unrelated", "An ICMP error about a packet of no known flow.")             \
	X(22, MULTICAST, "multicast", "Multicast and broadcast are not routed.")                              \
	X(23, SCTP_PORT, "sctp-port", "A fragment of SCTP whose port would have to be translated.")           \
	X(24, REWRITE_FAILED, "rewrite-failed", "A helper refused to change the packet.")                     \
	X(25, NOT_CONFIGURED, "not-configured", "A map has no record that the packet needs.")                 \
	X(26, NO_MEMORY, "no-memory", "The kernel had no memory for a flow entry.")                           \
	X(27, SOURCE_RANGE, "source-range", "The service's loadBalancerSourceRanges do not name the client.") \
	X(28, FRAGMENT_FLOOD, "fragment-flood", "The sender has too many datagrams that never became whole.") \
	X(29, FOREIGN_TUNNEL, "foreign-tunnel", "By a tunnel from no known node, or of another network.")

enum drop_reason {
#define X(number, name, label, text) DROP_##name = number,
	DROP_REASONS(X)
#undef X
	DROP_REASONS_MAX = 32
};

/* X(number, name) */
#define HOOKS(X)             \
	X(0, from_pod)       \
	X(1, to_pod)         \
	X(2, from_uplink)    \
	X(3, to_uplink)      \
	X(4, from_host)      \
	X(5, xdp_uplink)     \
	X(6, from_overlay)   \
	X(7, to_overlay)         \
	X(8, from_defrag)

enum hook {
#define X(number, name) HOOK_##name = number,
	HOOKS(X)
#undef X
	HOOKS_MAX = 16
};

/* X(number, NAME, "label", "one sentence") */
#define VERDICTS(X)                                                                          \
	X(0, NEXT, "next", "Not decided: go on with the next stage.")                        \
	X(1, PASS, "pass", "Left to the host's stack, unchanged or already translated.")     \
	X(2, DROP, "drop", "Dropped with a reason.")                                         \
	X(3, TO_ENDPOINT, "to-endpoint", "Delivered to a pod on this node.")                 \
	X(4, TO_HOST, "to-host", "Delivered to the host's stack.")                           \
	X(5, TO_NEXT_HOP, "to-next-hop", "Sent out of an uplink.")                           \
	X(6, REPLY, "reply", "Answered by the datapath itself, out of the ingress device.") \
	X(7, DEFRAGMENT, "defragment", "A fragment out of order, sent to the defragmenter or back from it.") \
	X(8, TO_NODE, "to-node", "Sent to another node by the overlay.")

enum verdict {
#define X(number, name, label, text) VERDICT_##name = number,
	VERDICTS(X)
#undef X
	VERDICTS_MAX = 16
};

#endif
