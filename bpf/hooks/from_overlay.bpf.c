/* TC ingress on the overlay device: what other nodes send by their tunnels. Their pods and the nodes themselves,
 * and the clients of services whose connections they masquerade; judged as what comes by an uplink. */
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

SEC("tc")
int from_overlay(struct __sk_buff *ctx)
{
	struct packet pkt = { .hook = HOOK_from_overlay };
	struct connection *conn;
	enum verdict verdict;

	RUN(parse(ctx, &pkt));
	RUN(tunnel_sender(ctx, &pkt));
	RUN(established(ctx, &pkt));
	RUN(defragment(ctx, &pkt));
	RUN(foreign_drop(&pkt));
	RUN(icmp_error(ctx, &pkt));
	RUN(readmit(ctx, &pkt));
	RUN(track(ctx, &pkt));
	conn = connection_begin();
	RUN(tunnel_end(&pkt));
	RUN(source_overlay(&pkt, conn));
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
