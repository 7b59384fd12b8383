/* The frame around a measured program: BPF_PROG_TEST_RUN gives every repetition the packet which the last one
 * left, so each is first made anew, then handed on by a tail call. The yardsticks hang in the same frame. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bench/frame.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/flow.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_frame);
} frame SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target_tc SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target_xdp SEC(".maps");

/* The yardstick's table: shaped as the flow table. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct flow_key);
	__type(value, struct flow);
} yardstick SEC(".maps");

/* And another one, shaped as the addresses with their identities. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct address_key);
	__type(value, struct address_info);
} identities SEC(".maps");

/* Writes the headers back; with `vary` every repetition has a source port of its own. */
static __always_inline int restore(void *data, void *end)
{
	__u32 zero = 0;
	struct bench_frame *f = bpf_map_lookup_elem(&frame, &zero);

	if (!f || data + sizeof(f->headers) > end)
		return -1;
	__builtin_memcpy(data, f->headers, sizeof(f->headers));
	if (f->vary) {
		__be16 *port = data + (f->vary & 63);

		if ((void *)(port + 1) > end)
			return -1;
		*port = f->port++;
	}
	return 0;
}

/* A tunnel that was given to the packet reads as one it came by: the end that the packet is to be sent from is the
 * one it came from. So BPF_PROG_TEST_RUN carries tunnels after all. */
static __always_inline void come_by_tunnel(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct bench_frame *f = bpf_map_lookup_elem(&frame, &zero);
	struct bpf_tunnel_key key = {};

	if (!f || !f->tunnel_source)
		return;
	key.tunnel_id = f->tunnel_vni;
	key.local_ipv4 = f->tunnel_source;
	bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), 0);
}

SEC("tc")
int frame_tc(struct __sk_buff *ctx)
{
	if (restore((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return TC_ACT_SHOT;
	ctx->mark = 0;
	come_by_tunnel(ctx);
	bpf_tail_call_static(ctx, &target_tc, 0);
	return TC_ACT_SHOT;
}

SEC("xdp")
int frame_xdp(struct xdp_md *ctx)
{
	if (restore((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return XDP_ABORTED;
	bpf_tail_call_static(ctx, &target_xdp, 0);
	return XDP_ABORTED;
}

SEC("tc")
int empty_tc(struct __sk_buff *ctx)
{
	return ctx->mark;
}

SEC("xdp")
int empty_xdp(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

static __always_inline __u32 look(void)
{
	struct flow_key key = { .sport = 1 };
	struct flow *found = bpf_map_lookup_elem(&yardstick, &key);

	return found ? found->slot : 1;
}

SEC("tc")
int lookup_tc(struct __sk_buff *ctx)
{
	(void)ctx;
	return look();
}

/* What it costs to know where a tunnel began, and whose an address is. */
SEC("tc")
int tunnel_tc(struct __sk_buff *ctx)
{
	struct bpf_tunnel_key key;

	return bpf_skb_get_tunnel_key(ctx, &key, sizeof(key), 0) ? 1 : (int)key.remote_ipv4 & 1;
}

SEC("tc")
int address_tc(struct __sk_buff *ctx)
{
	struct address_key key = { .net = 1 };
	struct address_info *found = bpf_map_lookup_elem(&identities, &key);

	(void)ctx;
	return found ? found->identity : 1;
}

SEC("xdp")
int lookup_xdp(struct xdp_md *ctx)
{
	(void)ctx;
	return look() + XDP_PASS;
}

char _license[] SEC("license") = "GPL";
