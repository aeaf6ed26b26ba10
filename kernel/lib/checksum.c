// The Internet checksum: 16-bit one's complement sum (RFC 1071), and the byte sum of ACPI tables.
// Context: any.
#include <lib/checksum.h>

// Sums 32-bit words in a 64-bit accumulator: one's complement addition does not care how wide the
// words are that are added, so long as the carries come back in at the end (RFC 1071, section 2
// (C)). The result is folded to 32 bits.
uint32_t checksum_partial(const void *data, size_t size, uint32_t sum)
{
    const uint8_t *p = data;
    uint64_t total = sum;

    for (; size >= 4; size -= 4, p += 4) {
        total += get_le32(p);
    }
    if (size >= 2) {
        total += get_le16(p);
        p += 2;
        size -= 2;
    }
    if (size != 0) {
        total += *p;
    }
    total = (total & 0xffffffff) + (total >> 32);
    return (uint32_t)((total & 0xffffffff) + (total >> 32));
}

uint16_t checksum_internet(const void *data, size_t size, uint32_t sum)
{
    uint32_t total = checksum_partial(data, size, sum);

    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

uint8_t checksum_bytes(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + p[i]);
    }
    return sum;
}

// Bit by bit: nothing here takes a CRC of much.
uint32_t crc32_update(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
        }
    }
    return ~crc;
}

uint32_t crc32(const void *data, size_t size)
{
    return crc32_update(0, data, size);
}
