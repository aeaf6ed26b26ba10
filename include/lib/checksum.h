// Checksums and digests over bytes. Context: any.
#pragma once

#include <lib/types.h>

// The Internet checksum (RFC 1071) of data, started from `sum` (0, or the sum of a pseudo header).
// Returns the folded 16-bit one's complement in network byte order, ready to store; 0 over data
// with a good checksum.
uint16_t checksum_internet(const void *data, size_t size, uint32_t sum);

// Unfolded partial sum, to chain headers that lie apart.
uint32_t checksum_partial(const void *data, size_t size, uint32_t sum);

// Sum of all bytes modulo 256: ACPI tables are good when it is 0 (ACPI 6.4, 5.2.6).
uint8_t checksum_bytes(const void *data, size_t size);

// CRC-32 with the polynomial 0x04c11db7, reflected (ISO 3309): what GPT and Ethernet use. update
// goes on from what it returned for the bytes before, 0 at first.
uint32_t crc32(const void *data, size_t size);
uint32_t crc32_update(uint32_t crc, const void *data, size_t size);

#define SHA256_SIZE 32
struct sha256 {
    uint32_t state[8];
    uint64_t length_bytes;
    uint8_t block[64];
};

// FIPS 180-4. init, update as often as needed, final.
void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t size);
void sha256_final(struct sha256 *s, uint8_t digest[SHA256_SIZE]);
