/* TC ingress on our host device, where the host's stack looks like one more pod, and TC egress on lo, for
 * processes that reach for node ports of local addresses. */
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
#include "bpf/stages/loopback.h"

SEC("tc")
int from_host(struct __sk_buff *ctx)
{
	struct packet pkt = { .hook = HOOK_from_host };
	struct connection *conn;
	enum verdict verdict;

	RUN(parse_host(ctx, &pkt));
	RUN(established(ctx, &pkt));
	RUN(loopback(ctx, &pkt));
	RUN(foreign_drop(&pkt));
	RUN(icmp_error(ctx, &pkt));
	RUN(readmit(ctx, &pkt));
	RUN(track(ctx, &pkt));
	conn = connection_begin();
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
