/* Node-wide switches, the rodata of every program: fixed at load, so dead branches cost nothing. A ticket
 * of the same record is kept in the `node_config` map, for tools that run without the agent. */
#ifndef BPFNET_ABI_CONFIG_H
#define BPFNET_ABI_CONFIG_H

#include "maps/abi/base.h"

/* A tick is jiffies64 >> tick_shift, about one second; every timeout is in ticks. */
struct datapath_config {
	__u32 layout_version;
	__u32 tick_shift;
	__u64 tick_ns;
	__u64 hash_seed;
	__u32 max_flows; /* pairs */
	__u32 endpoint_flow_quota; /* pairs one local pod may have opened; 0: no limit */
	__u32 timeout_tcp_new;
	__u32 timeout_tcp_established;
	__u32 timeout_tcp_closing;
	__u32 timeout_tcp_closed;
	__u32 timeout_udp_new;
	__u32 timeout_udp_established;
	__u32 timeout_icmp;
	__u16 masquerade_port_first;
	__u16 masquerade_port_last;
	__u32 mark;      /* on packets our programs send, so that egress hooks let them be */
	__u32 mark_mask;
	__u32 host_ifindex;   /* our host device, the side with the addresses' routes */
	__u32 router_ifindex; /* its peer, where from_host runs; also the device for FIB lookups */
	struct mac host_mac;  /* of both */
	__u8 masquerade; /* 1: pods leave the cluster with the node's address */
	__u8 trace;      /* 1: an event for every packet */
	__u32 primary_uplink; /* its interface record gives the ICMP error source. May change while programs run:
				 they read it in `node_config`, see primary_uplink_find() */
	__u32 event_rate; /* drop events per CPU and tick */
	__u32 defrag_ifindex; /* our side of the defragmenter's veth; 0: there is none */
	__u32 overlay_ifindex; /* the device of the tunnels to other nodes; 0: packets go to them as they are */
	__u32 overlay_vni;
	__be16 overlay_port; /* UDP, where tunnels end */
	__u16 pad;
};
ABI_ASSERT(sizeof(struct datapath_config) == 112, "datapath_config");

#endif
