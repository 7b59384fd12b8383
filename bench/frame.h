/* What the measured frame and its driver share. */
#ifndef BPFNET_BENCH_FRAME_H
#define BPFNET_BENCH_FRAME_H

#include "maps/abi/base.h"

struct bench_frame {
  __u64 headers[10]; /* Ethernet, IPv6 and TCP are 74 bytes: whatever a measured program rewrites */
  __u32 vary;        /* offset of the source port when every packet is to be a new flow, else 0 */
  __u16 port;
  __u16 pad;
  __u32 tunnel_source; /* IPv4, host byte order: packets come by a tunnel from it; 0: by none */
  __u32 tunnel_vni;
};
ABI_ASSERT(sizeof(struct bench_frame) == 96, "bench_frame");

#endif
