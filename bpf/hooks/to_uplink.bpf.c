/* TC egress on an uplink: what the host's own stack sends. Our own packets carry a mark and pass. */
#include "bpf/finish.h"
#include "bpf/hooks/license.h"
#include "bpf/stages/create.h"
#include "bpf/stages/flow.h"
#include "bpf/stages/foreign.h"
#include "bpf/stages/icmp_error.h"
#include "bpf/stages/masquerade.h"
#include "bpf/stages/parse_any.h"
#include "bpf/stages/policy.h"
#include "bpf/stages/readmit.h"
#include "bpf/stages/route.h"
#include "bpf/stages/service.h"
#include "bpf/stages/source.h"
#include "bpf/stages/track.h"
#include "bpf/stages/uplink.h"

SEC("tc")
int to_uplink(struct __sk_buff *ctx)
{
	struct packet pkt = { .hook = HOOK_to_uplink };
	struct connection *conn;
	enum verdict verdict;

	if (marked_ours(ctx))
		return TC_ACT_OK;
	if (parse(ctx, &pkt) != VERDICT_NEXT) {
		verdict = pass(&pkt); /* the stack's own are not ours to judge */
		goto out;
	}
	RUN(established(ctx, &pkt));
	RUN(foreign_pass(&pkt));
	RUN(icmp_error(ctx, &pkt));
	RUN(readmit(ctx, &pkt));
	RUN(track(ctx, &pkt));
	conn = connection_begin();
	RUN(host_departure(&pkt, conn));
	RUN(source_host(ctx, &pkt, conn));
	RUN(service(ctx, &pkt, conn));
	RUN(policy(&pkt, conn));
	RUN(route(ctx, &pkt, conn));
	RUN(masquerade(&pkt, conn));
	RUN(reserve(&pkt, conn));
	RUN(create(ctx, &pkt));
	verdict = begin(ctx, &pkt);
out:
	return finish(ctx, &pkt, host_own_passes(&pkt, verdict));
}
