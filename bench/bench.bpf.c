/* The frame around a measured program: BPF_PROG_TEST_RUN gives every repetition the packet which the last one
 * left, so each is first made anew, then handed on by a tail call. The yardsticks hang in the same frame. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bench/frame.h"
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

SEC("tc")
int frame_tc(struct __sk_buff *ctx)
{
	if (restore((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return TC_ACT_SHOT;
	ctx->mark = 0;
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

SEC("xdp")
int lookup_xdp(struct xdp_md *ctx)
{
	(void)ctx;
	return look() + XDP_PASS;
}

char _license[] SEC("license") = "GPL";
