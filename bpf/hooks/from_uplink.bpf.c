/* TC ingress on an uplink: what the wire brings. Answers to pods and to masqueraded connections, clients of
 * services, other nodes' pods; the rest is the stack's own. */
#include "bpf/finish.h"
#include "bpf/hooks/license.h"
#include "bpf/stages/create.h"
#include "bpf/stages/defragment.h"
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
#include "bpf/stages/tunnel.h"
#include "bpf/stages/uplink.h"

SEC("tc")
int from_uplink(struct __sk_buff *ctx)
{
	struct packet pkt = { .hook = HOOK_from_uplink };
	struct connection *conn;
	enum verdict verdict;

	RUN(addressed_to_us(ctx, &pkt));
	RUN(parse(ctx, &pkt));
	RUN(tunnel_pass(&pkt));
	RUN(established(ctx, &pkt));
	RUN(defragment(ctx, &pkt));
	RUN(foreign_pass(&pkt));
	RUN(icmp_error(ctx, &pkt));
	RUN(readmit(ctx, &pkt));
	RUN(track(ctx, &pkt));
	conn = connection_begin();
	RUN(for_us(ctx, &pkt));
	RUN(source_uplink(ctx, &pkt, conn));
	RUN(service(ctx, &pkt, conn));
	RUN(policy(&pkt, conn));
	RUN(route(ctx, &pkt, conn));
	RUN(masquerade(&pkt, conn));
	RUN(reserve(&pkt, conn));
	RUN(create(ctx, &pkt));
	verdict = begin(ctx, &pkt);
out:
	return finish(ctx, &pkt, verdict);
}
