#ifndef BPFNET_HOOKS_LICENSE_H
#define BPFNET_HOOKS_LICENSE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Helpers such as bpf_redirect_peer are open to GPL-compatible programs only. */
char _license[] SEC("license") __weak = "Dual BSD/GPL";

#endif
