/* Expiry. A timer in the pinned flow_table walks the slots, so that flows end while no agent runs. */
#include "bpf/hooks/license.h"
#include "bpf/lib/time.h"
#include "bpf/stages/expire.h"

/* Run once at load by BPF_PROG_TEST_RUN: arms the timer, whose callback arms it again. A second run, by an
 * agent that adopts the maps, replaces the callback by its own. 0, or a negative errno. */
SEC("tc")
int flow_timer_start(struct __sk_buff *ctx)
{
	struct flow_table *table = table_get();
	long error;

	if (!ctx || !table)
		return -1;
	error = bpf_timer_init(&table->timer, &flow_table, EXPIRE_CLOCK);
	if (error && error != EXPIRE_BUSY)
		return error;
	error = bpf_timer_set_callback(&table->timer, expire);
	if (error)
		return error;
	return bpf_timer_start(&table->timer, EXPIRE_INTERVAL_NS, 0);
}
