// Checksums and SHA-256 against published vectors and against a slow, obvious model.
//
// links: kernel/lib/checksum.c kernel/lib/sha256.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <lib/checksum.h>
#include <lib/string.h>

// RFC 1071 as its text reads: 16-bit words in network order, carries added back one by one.
static uint16_t model_checksum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i += 2) {
        sum += (uint32_t)data[i] << 8 | (i + 1 < size ? data[i + 1] : 0);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void internet_checksum_matches_the_model(void **state)
{
    uint8_t data[1501];

    (void)state;
    srand(1);
    for (size_t size = 0; size <= sizeof(data); size++) {
        for (size_t i = 0; i < size; i++) {
            data[i] = (uint8_t)rand();
        }
        uint16_t ours = checksum_internet(data, size, 0);
        assert_int_equal((uint16_t)(ours << 8 | ours >> 8), model_checksum(data, size));
    }
    memset(data, 0xff, sizeof(data)); // the most carries
    uint16_t ours = checksum_internet(data, 1500, 0);
    assert_int_equal((uint16_t)(ours << 8 | ours >> 8), model_checksum(data, 1500));
}

static void internet_checksum_of_a_known_header(void **state)
{
    // The example of RFC 1071 section 3: sum ddf2, so the checksum is its complement.
    const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    uint16_t ours = checksum_internet(data, sizeof(data), 0);

    (void)state;
    assert_int_equal((uint16_t)(ours << 8 | ours >> 8), 0x220d);
    // Chained over two even pieces it is the same.
    assert_int_equal(checksum_internet(data + 4, 4, checksum_partial(data, 4, 0)), ours);
}

static void sha256_hex(const void *data, size_t size, size_t step, char hex[65])
{
    struct sha256 s;
    uint8_t digest[SHA256_SIZE];

    sha256_init(&s);
    for (size_t i = 0; i < size; i += step) {
        sha256_update(&s, (const uint8_t *)data + i, size - i < step ? size - i : step);
    }
    sha256_final(&s, digest);
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
}

static void sha256_published_vectors(void **state)
{
    static uint8_t million[1000000];
    char hex[65];

    (void)state;
    sha256_hex("", 0, 1, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 5, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', sizeof(million));
    for (size_t step = 1; step < 200; step += 61) {
        sha256_hex(million, sizeof(million), step, hex);
        assert_string_equal(hex,
                            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(internet_checksum_matches_the_model),
        cmocka_unit_test(internet_checksum_of_a_known_header),
        cmocka_unit_test(sha256_published_vectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
