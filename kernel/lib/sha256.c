// SHA-256 (FIPS 180-4, sections 4.1.2, 5.3.3 and 6.2): the digest by which a disk is compared with
// its image on the host. Context: any.
#include <lib/checksum.h>
#include <lib/string.h>

// First 32 bits of the fractional parts of the cube roots of the first 64 primes (4.2.2).
static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t sha256_rotr(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(struct sha256 *s, const uint8_t block[64])
{
    uint32_t w[64], v[8];

    for (unsigned i = 0; i < 16; i++) {
        w[i] = __builtin_bswap32(get_le32(block + 4 * i));
    }
    for (unsigned i = 16; i < 64; i++) {
        uint32_t s0 = sha256_rotr(w[i - 15], 7) ^ sha256_rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = sha256_rotr(w[i - 2], 17) ^ sha256_rotr(w[i - 2], 19) ^ w[i - 2] >> 10;

        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, s->state, sizeof(v));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t s1 = sha256_rotr(v[4], 6) ^ sha256_rotr(v[4], 11) ^ sha256_rotr(v[4], 25);
        uint32_t choose = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + s1 + choose + sha256_k[i] + w[i];
        uint32_t s0 = sha256_rotr(v[0], 2) ^ sha256_rotr(v[0], 13) ^ sha256_rotr(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

        memmove(v + 1, v, 7 * sizeof(v[0]));
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (unsigned i = 0; i < 8; i++) {
        s->state[i] += v[i];
    }
}

void sha256_init(struct sha256 *s)
{
    // Fractional parts of the square roots of the first eight primes (5.3.3).
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    *s = (struct sha256){0};
    memcpy(s->state, start, sizeof(start));
}

void sha256_update(struct sha256 *s, const void *data, size_t size)
{
    const uint8_t *p = data;

    while (size != 0) {
        size_t used = s->length_bytes % 64;
        size_t taken = min(size, 64 - used);

        if (used == 0 && size >= 64) { // whole blocks need no copy
            sha256_block(s, p);
            taken = 64;
        } else {
            memcpy(s->block + used, p, taken);
            if (used + taken == 64) {
                sha256_block(s, s->block);
            }
        }
        s->length_bytes += taken;
        p += taken;
        size -= taken;
    }
}

void sha256_final(struct sha256 *s, uint8_t digest[SHA256_SIZE])
{
    uint64_t bits = __builtin_bswap64(s->length_bytes * 8);
    uint8_t padding[64] = {0x80};
    size_t used = s->length_bytes % 64;

    sha256_update(s, padding, used < 56 ? 56 - used : 120 - used);
    sha256_update(s, &bits, sizeof(bits));
    for (unsigned i = 0; i < 8; i++) {
        uint32_t word = __builtin_bswap32(s->state[i]);

        memcpy(digest + 4 * i, &word, sizeof(word));
    }
}
