/* The answer to a WebSocket key (RFC 6455, section 4.2.2): base64 of SHA-1 (FIPS 180-4) of the key and a constant. */
#include <stdint.h>
#include <string.h>

#define ACCEPT_SIZE 29
#define MAX_KEY 64

static inline uint32_t rotated(uint32_t value, int bits)
{
	return value << bits | value >> (32 - bits);
}

static void sha1_block(uint32_t state[5], const unsigned char *block)
{
	uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 80; i++)
		w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (int i = 0; i < 80; i++) {
		uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
			   : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
			   : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
				    : (b ^ c ^ d) + 0xca62c1d6;
		uint32_t next = rotated(a, 5) + f + e + w[i];
		e = d;
		d = c;
		c = rotated(b, 30);
		b = a;
		a = next;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
}

/* Write the accept value, with its final zero; of a key that is too long only the begin counts. */
static void websocket_accept(const char *key, size_t length, char accept[ACCEPT_SIZE])
{
	static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned char text[128] = {0}, digest[21] = {0};
	uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	if (length > MAX_KEY)
		length = MAX_KEY;
	memcpy(text, key, length);
	memcpy(text + length, suffix, sizeof suffix - 1);
	length += sizeof suffix - 1;
	text[length] = 0x80;
	size_t blocks = (length + 9 + 63) / 64;
	text[64 * blocks - 2] = (unsigned char)(length * 8 >> 8);
	text[64 * blocks - 1] = (unsigned char)(length * 8);
	for (size_t i = 0; i < blocks; i++)
		sha1_block(state, text + 64 * i);
	for (int i = 0; i < 20; i++)
		digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
	for (int i = 0; i < 7; i++) {
		uint32_t three = (uint32_t)digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
		for (int j = 0; j < 4; j++)
			accept[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
	}
	accept[27] = '=';
	accept[28] = 0;
}
