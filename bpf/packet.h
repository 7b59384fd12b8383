/* The state between the stages of one packet. It holds no pointers: cold stages are global functions, which
 * the verifier checks on their own and to which this is plain memory. */
#ifndef BPFNET_PACKET_H
#define BPFNET_PACKET_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/maps.h"

enum packet_kind {
	PACKET_TUPLE = 0,  /* has a flow tuple: key */
	PACKET_ERROR = 1,  /* an ICMP error: key is the tuple of the packet it is about, reversed */
	PACKET_ARP = 2,
	PACKET_ND = 3,     /* neighbour discovery */
	PACKET_FOREIGN = 4, /* not for us to judge: `reason` says what it would be dropped for */
};

enum packet_flags {
	PACKET_MIDSTREAM = 1 << 0,      /* can not begin a connection: TCP without a bare SYN, echo reply */
	PACKET_LATER_FRAGMENT = 1 << 1, /* no transport header; the ports of key were remembered */
	PACKET_IS_FRAGMENT = 1 << 2,
	PACKET_NO_NEIGHBOUR = 1 << 3,   /* delivery: the next hop must be looked up */
	PACKET_KEEP_LINK = 1 << 4,      /* delivery: the Ethernet header stays */
	PACKET_NO_FLOW = 1 << 5,        /* the flow table does not have it */
	PACKET_AUDITED = 1 << 6,        /* policy in audit mode: `reason` and `rule` would have been its end */
	PACKET_REVERSED = 1 << 7,       /* judged as of a connection that its receiver began */
	PACKET_HOST_OWN = 1 << 8,       /* of the host's own to no service: it only becomes a known flow */
	PACKET_TELL = 1 << 9,           /* reject(), policy: a drop whose sender gets an ICMP error or a reset */
	PACKET_BEGINS = 1 << 10,        /* its flow was made for it a moment ago */
};

enum tcp_flags {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

/* Header offsets stay below this, so that the verifier accepts them as packet offsets. */
enum { PACKET_OFFSET_MASK = 0x3ff };

struct packet {
	struct flow_key key;    /* parse: the tuple as the packet arrived */
	__u32 length;           /* parse: L3 bytes */
	__u16 l4_offset;        /* parse: from the frame's start */
	__u16 inner_l4_offset;  /* parse: of an ICMP error, the transport header of the packet inside */
	__u8 family;            /* parse: 4, 6 or 0 */
	__u8 kind;              /* parse: enum packet_kind */
	__u16 flags;            /* enum packet_flags */
	__u8 tcp_flags;         /* parse: 0 for other protocols */
	__u8 l4_proto;          /* parse: of the packet itself; key.proto is of the packet inside an error */
	__u8 hook;              /* the hook */
	__u8 reason;            /* drop(); policy, of a packet that is audited */
	union {
		__u32 code;         /* deliver: what the hook returns to the kernel */
		__be32 fragment_id; /* parse: of a fragment that waits for the first one */
	};
	__u32 out_ifindex;      /* deliver */
	__u32 src_identity;     /* source */
	__u32 dst_identity;     /* policy */
	__u32 rule;             /* policy: which allowed it, or denied it; 0: none did */
	__u32 service;          /* service */
	__u16 src_endpoint;     /* source */
	__u16 dst_endpoint;     /* policy */
	struct addr backend;    /* service, for events */
	__be16 backend_port;
	__u16 mtu;              /* forward: what the packet was too big for */
	__u16 node;             /* tunnel_sender: the node it came from by the overlay; else 0 */
	__u16 pad[3];
};
ABI_ASSERT(sizeof(struct packet) % 8 == 0, "packet has no hole at its end");

/* From another machine, be it as it is or by a tunnel. */
static __always_inline bool packet_is_from_wire(const struct packet *pkt)
{
	return pkt->hook == HOOK_from_uplink || pkt->hook == HOOK_from_overlay;
}

static __always_inline bool packet_is_tcp_syn(const struct packet *pkt)
{
	return (pkt->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

#endif
