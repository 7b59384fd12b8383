/* Every map, once. Records are in maps/abi; sizes are small defaults which the loader raises before load. */
#ifndef BPFNET_MAPS_H
#define BPFNET_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "maps/abi/config.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/event.h"
#include "maps/abi/flow.h"
#include "maps/abi/fragment.h"
#include "maps/abi/policy.h"
#include "maps/abi/reasons.h"
#include "maps/abi/service.h"
#include "maps/abi/socket.h"

/* Weak: every hook's object has the definition, the joined object has it once. */
#define MAP SEC(".maps") __weak

const volatile __weak struct datapath_config config;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 4096);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct flow_slot);
} flow_slots MAP;

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4096);
	__type(value, __u32);
} flow_free MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_table);
} flow_table MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct endpoint_usage);
} endpoint_usage MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct address_key);
	__type(value, struct address_info);
} addresses MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct cidr_key);
	__type(value, struct cidr_info);
} cidrs MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NODES_MAX);
	__type(key, __u32);
	__type(value, struct node);
} nodes MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct frontend_key);
	__type(value, struct frontend);
} frontends MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct frontend_range_key);
	__type(value, struct frontend);
} frontend_ranges MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct source_range_key);
	__type(value, struct source_range);
} source_ranges MAP;

/* An LRU: whoever loses a record among so many is balanced anew, at the worst. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
} affinities MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct backend_slot);
} backend_slots MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct backend_state);
} backend_states MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct policy_key);
	__type(value, struct policy_entry);
} policies MAP;

/* An LRU: a lost entry costs one datagram. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct socket_namespace);
} socket_namespaces MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_peer);
} socket_peers MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_datagram_peers);
} socket_datagrams MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SOCKET_OUTCOMES_MAX);
	__type(key, __u32);
	__type(value, struct socket_count);
} socket_counts MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOKS_MAX * VERDICTS_MAX);
	__type(key, __u32);
	__type(value, struct packet_count);
} verdict_counts MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOKS_MAX * DROP_REASONS_MAX);
	__type(key, __u32);
	__type(value, struct packet_count);
} drop_counts MAP;

/* What was let through by audit mode alone, by what it would have been dropped for. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOKS_MAX * DROP_REASONS_MAX);
	__type(key, __u32);
	__type(value, struct packet_count);
} audit_counts MAP;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 4096);
} events MAP;

/* What is left of config.event_rate in this tick. */
struct event_budget {
	__u32 tick;
	__u32 used;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_budget);
} event_budget MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct datapath_config);
} node_config MAP;

#endif
