/* TC ingress on our side of the defragmenter's veth: datagrams whose fragments came out of order, now in
 * order. They go back to the device they came in by, where the hooks judge them as they do all others. */
#include "bpf/finish.h"
#include "bpf/hooks/license.h"
#include "bpf/stages/defragment.h"
#include "bpf/stages/parse_any.h"

SEC("tc")
int from_defrag(struct __sk_buff *ctx)
{
	struct packet pkt = { .hook = HOOK_from_defrag };
	enum verdict verdict;

	RUN(parse(ctx, &pkt));
	verdict = resume(ctx, &pkt);
out:
	return finish(ctx, &pkt, verdict);
}
