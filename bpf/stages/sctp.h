/* sctp: ports that were rewritten, made good in the checksum, which covers the whole packet but no address. */
#ifndef BPFNET_STAGES_SCTP_H
#define BPFNET_STAGES_SCTP_H

#include <linux/if_ether.h>
#include <linux/ipv6.h>

#include "bpf/lib/checksum.h"
#include "bpf/lib/crc32c.h"
#include "bpf/verdict.h"

enum { SCTP_CHECKSUM = 8 }; /* bytes into the header */

static __always_inline __u32 from_little_endian(__u32 word)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap32(word);
}

/* Bytes from the ports to the end of the IP packet; frames may be padded. 0: cannot be known. */
static __always_inline __u16 sctp_length(struct __sk_buff *ctx, const struct packet *pkt)
{
	__u32 header = pkt->l4_offset - ETH_HLEN;
	__be16 length;

	if (bpf_skb_load_bytes(ctx, ETH_HLEN + (pkt->family == 4 ? 2 : 4), &length, sizeof(length)))
		return 0;
	if (pkt->family == 6)
		header -= sizeof(struct ipv6hdr);
	return bpf_ntohs(length) - header;
}

/* `from` and `to`: both ports as they stand in the packet, before and after. A checksum of zero is left to
 * the device that sends the packet, and stays so. Of a fragment neither the end nor the rest is here. */
__weak __noinline int sctp_checksum(struct __sk_buff *ctx, struct packet *pkt, __u32 from, __u32 to)
{
	__u32 field, before, after, change;
	__u64 sum = csum_replace32(0, from, to);

	if (!pkt)
		return VERDICT_DROP;
	if (pkt->flags & PACKET_IS_FRAGMENT)
		return drop(pkt, DROP_SCTP_PORT);
	field = (pkt->l4_offset & PACKET_OFFSET_MASK) + SCTP_CHECKSUM;
	if (bpf_skb_load_bytes(ctx, field, &before, sizeof(before)))
		return drop(pkt, DROP_TRUNCATED);
	if (before) {
		change = crc32c_change(from_little_endian(from ^ to), sctp_length(ctx, pkt));
		after = before ^ from_little_endian(change);
		if (bpf_skb_store_bytes(ctx, field, &after, sizeof(after), 0))
			return drop(pkt, DROP_REWRITE_FAILED);
		sum = csum_replace32(sum, before, after);
	}
	/* CHECKSUM_COMPLETE is the sum of it all, and nothing in the packet makes up for this. */
	if (packet_is_from_wire(pkt))
		bpf_csum_update(ctx, csum_fold32(sum));
	return VERDICT_NEXT;
}

#endif
