/* Marked packets are ours: egress hooks on their way let them be. */
#ifndef BPFNET_LIB_MARK_H
#define BPFNET_LIB_MARK_H

#include "bpf/maps.h"

static __always_inline void mark_ours(struct __sk_buff *ctx)
{
	ctx->mark = (ctx->mark & ~config.mark_mask) | config.mark;
}

static __always_inline bool marked_ours(struct __sk_buff *ctx)
{
	return config.mark && (ctx->mark & config.mark_mask) == config.mark;
}

#endif
