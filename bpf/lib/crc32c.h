/* CRC32c, SCTP's checksum (RFC 9260, appendix A), brought up to date without reading the packet. The CRC is
 * linear: a change of one word changes it by that word times x^(bits from there to the end), modulo the
 * polynomial, wherever it began. Polynomials stand with their highest power in the lowest bit. */
#ifndef BPFNET_LIB_CRC32C_H
#define BPFNET_LIB_CRC32C_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

enum { CRC32C_POLYNOMIAL = 0x82f63b78u };

static __noinline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = (b >> 1) ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* x^(8 * 2^k) if that bit of the number of bytes is set. */
static __always_inline __u32 crc32c_step(__u32 change, __u32 bytes, __u32 k, __u32 power)
{
	return bytes >> k & 1 ? crc32c_multiply(change, power) : change;
}

/* What the change of a word does to the CRC when `bytes`, the word among them, follow from there to the end.
 * `change` is the old word exclusive-or the new one, read as little-endian, and so is the result. */
static __always_inline __u32 crc32c_change(__u32 change, __u16 bytes)
{
	change = crc32c_step(change, bytes, 0, 0x00800000);
	change = crc32c_step(change, bytes, 1, 0x00008000);
	change = crc32c_step(change, bytes, 2, 0x82f63b78);
	change = crc32c_step(change, bytes, 3, 0x6ea2d55c);
	change = crc32c_step(change, bytes, 4, 0x18b8ea18);
	change = crc32c_step(change, bytes, 5, 0x510ac59a);
	change = crc32c_step(change, bytes, 6, 0xb82be955);
	change = crc32c_step(change, bytes, 7, 0xb8fdb1e7);
	change = crc32c_step(change, bytes, 8, 0x88e56f72);
	change = crc32c_step(change, bytes, 9, 0x74c360a4);
	change = crc32c_step(change, bytes, 10, 0xe4172b16);
	change = crc32c_step(change, bytes, 11, 0x0d65762a);
	change = crc32c_step(change, bytes, 12, 0x35d73a62);
	change = crc32c_step(change, bytes, 13, 0x28461564);
	change = crc32c_step(change, bytes, 14, 0xbf455269);
	return crc32c_step(change, bytes, 15, 0xe2ea32dc);
}

#endif
