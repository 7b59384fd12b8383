/* Services at the socket: whose sockets are ours, what a socket was led to, and how often. */
#ifndef BPFNET_ABI_SOCKET_H
#define BPFNET_ABI_SOCKET_H

#include "maps/abi/base.h"

enum socket_namespace_kind {
	SOCKET_HOST = 1, /* the node's own network namespace */
	SOCKET_POD = 2,
};

/* By the cookie of a network namespace. Sockets of any other are left alone: a cgroup may hold processes of
 * several nodes, or of none. */
struct socket_namespace {
	__u16 endpoint; /* pod: endpoint index */
	__u16 net;
	__u8 kind; /* enum socket_namespace_kind */
	__u8 pad[3];
};
ABI_ASSERT(sizeof(struct socket_namespace) == 8, "socket_namespace");

/* What the application asked for and what it got. Socket storage: a record hangs at its socket and goes with
 * it, so none is lost while it is needed and none is left behind. */
struct socket_peer {
	struct addr service; /* zero: the record is free */
	struct addr backend;
	__be16 service_port;
	__be16 backend_port;
};
ABI_ASSERT(sizeof(struct socket_peer) == 36, "socket_peer");

/* An unconnected UDP socket keeps its backend as a flow of the packet path would: until its generation
 * moves, until the address is another service's, or until the socket was silent for timeout_udp_established. */
struct socket_datagram_peer {
	struct socket_peer peer;
	__u32 backend; /* id */
	__u32 generation;
	__u32 service; /* id: whose the address was */
	__u32 last_used; /* tick */
};
ABI_ASSERT(sizeof(struct socket_datagram_peer) == 52, "socket_datagram_peer");

/* Services beyond these go by the packet path. */
enum { SOCKET_DATAGRAM_PEERS = 4 };
struct socket_datagram_peers {
	struct socket_datagram_peer of[SOCKET_DATAGRAM_PEERS];
};
ABI_ASSERT(sizeof(struct socket_datagram_peers) == 208, "socket_datagram_peers");

/* X(number, NAME, "label", "one sentence"). Append-only, as all numbers that travel in counters. */
#define SOCKET_OUTCOMES(X)                                                                                        \
	X(0, CONNECT, "connect", "A TCP connection was led to a backend.")                                        \
	X(1, DATAGRAM, "datagram", "A datagram of an unconnected socket was led to a backend.")                   \
	X(2, MOVED, "moved", "An unconnected socket was given another backend: its own is gone or it was silent.") \
	X(3, ANSWER, "answer", "An answer was shown to come from the service.")                                   \
	X(4, PEER_NAME, "peer-name", "getpeername was told the service.")                                         \
	X(5, BIND_REFUSED, "bind-refused", "A process of the node asked for the port of a NodePort or hostPort.") \
	X(6, LEFT_EMPTY, "left-empty", "Left to the packet path: no backend, to be refused or dropped there.")    \
	X(7, LEFT_AFFINITY, "left-affinity", "Left to the packet path: the service has session affinity.")        \
	X(8, LEFT_SOURCE_RANGE, "left-source-range", "Left to the packet path: the service is open to some only.") \
	X(9, LEFT_PORT_RANGE, "left-port-range", "Left to the packet path: a published range of ports.")          \
	X(10, LEFT_BOUND, "left-bound", "Left to the packet path: the socket is bound to an address, a port, a device or a mark.") \
	X(11, LEFT_ITSELF, "left-itself", "Left to the packet path: the caller is one of the backends.")          \
	X(12, LEFT_BACKEND, "left-backend", "Left to the packet path: the backend is no pod or node of the cluster, or an address of services itself.") \
	X(13, LEFT_PEERS, "left-peers", "Left to the packet path: the socket has no room for a record, or two services of it the same backend.") \
	X(14, LEFT_ANSWER, "left-answer", "Left to the packet path: a datagram in answer to a client whose port is a service's too.") \
	X(15, LEFT_FLOW, "left-flow", "Left to the packet path: a datagram of a flow that began there.")

enum socket_outcome {
#define X(number, name, label, text) SOCKET_##name = number,
	SOCKET_OUTCOMES(X)
#undef X
	SOCKET_OUTCOMES_MAX = 32
};

/* By socket_outcome. */
struct socket_count {
	__u64 calls;
};

#endif
