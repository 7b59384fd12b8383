/* Time in ticks of about one second, from jiffies: the kernel inlines that read, a clock costs 30 ns. */
#ifndef BPFNET_LIB_TIME_H
#define BPFNET_LIB_TIME_H

#include "bpf/maps.h"

static __always_inline __u32 tick_now(void)
{
	return bpf_jiffies64() >> (config.tick_shift & 63);
}

#endif
