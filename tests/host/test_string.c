// The kernel's own memory, string and bit functions against the host's, over lengths, offsets and
// overlaps. They are linked under other names (tests/host/host.mk), as the sanitizers rely on the
// host's.
//
// links: kernel/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>

void *tophalf_memcpy(void *to, const void *from, size_t size);
void *tophalf_memmove(void *to, const void *from, size_t size);
void *tophalf_memset(void *to, int byte, size_t size);
int tophalf_memcmp(const void *a, const void *b, size_t size);
void *tophalf_memchr(const void *s, int byte, size_t size);
size_t tophalf_strlen(const char *s);
size_t tophalf_strnlen(const char *s, size_t max);
int tophalf_strcmp(const char *a, const char *b);
int tophalf_strncmp(const char *a, const char *b, size_t max);
char *tophalf_strchr(const char *s, int c);
char *tophalf_strrchr(const char *s, int c);
char *tophalf_strstr(const char *s, const char *what);
size_t tophalf_strspn(const char *s, const char *accept);
size_t tophalf_strcspn(const char *s, const char *reject);
long strscpy(char *to, const char *from, size_t size);
bool str_starts(const char *s, const char *prefix);
int __popcountdi2(unsigned long x);

enum { SPACE = 96 };

static void fill(uint8_t *bytes)
{
    for (unsigned i = 0; i < SPACE; i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
    }
}

static int sign(int x)
{
    return (x > 0) - (x < 0);
}

// Every distance from -20 to 20, every length to 40: all ways in which two stretches can overlap.
static void test_memmove(void **state)
{
    (void)state;
    uint8_t ours[SPACE], theirs[SPACE];
    for (unsigned to = 10; to <= 50; to++) {
        for (unsigned size = 0; size <= 40; size++) {
            fill(ours);
            fill(theirs);
            assert_ptr_equal(tophalf_memmove(ours + to, ours + 30, size), ours + to);
            memmove(theirs + to, theirs + 30, size);
            assert_memory_equal(ours, theirs, SPACE);
        }
    }
}

static void test_memcpy_memset(void **state)
{
    (void)state;
    uint8_t from[SPACE], ours[SPACE], theirs[SPACE];
    fill(from);
    for (unsigned at = 0; at < 9; at++) {
        for (unsigned size = 0; size <= SPACE - 9; size++) {
            memset(ours, 0xee, SPACE);
            memset(theirs, 0xee, SPACE);
            assert_ptr_equal(tophalf_memcpy(ours + at, from + 3, size < SPACE - 3 ? size : 0),
                             ours + at);
            memcpy(theirs + at, from + 3, size < SPACE - 3 ? size : 0);
            assert_memory_equal(ours, theirs, SPACE);
            assert_ptr_equal(tophalf_memset(ours + at, (int)size - 200, size), ours + at);
            memset(theirs + at, (int)size - 200, size);
            assert_memory_equal(ours, theirs, SPACE);
        }
    }
}

static void test_memcmp_memchr(void **state)
{
    (void)state;
    static const char *const words[] = {"", "a", "ab", "abc", "abd", "ab\xff", "ab\x01", "zzz"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (unsigned j = 0; j < sizeof(words) / sizeof(words[0]); j++) {
            const char *a = words[i], *b = words[j];
            size_t size = strlen(a) < strlen(b) ? strlen(a) + 1 : strlen(b) + 1;
            assert_int_equal(sign(tophalf_memcmp(a, b, size)), sign(memcmp(a, b, size)));
            assert_int_equal(sign(tophalf_strcmp(a, b)), sign(strcmp(a, b)));
            for (size_t max = 0; max < 5; max++) {
                assert_int_equal(sign(tophalf_strncmp(a, b, max)), sign(strncmp(a, b, max)));
            }
            assert_ptr_equal(tophalf_strstr(a, b), strstr(a, b));
            assert_int_equal(tophalf_strspn(a, b), strspn(a, b));
            assert_int_equal(tophalf_strcspn(a, b), strcspn(a, b));
        }
    }
    static const char text[] = "interrupt";
    for (int c = -1; c < 256; c++) {
        assert_ptr_equal(tophalf_memchr(text, c, 5), memchr(text, c, 5));
        assert_ptr_equal(tophalf_strchr(text, c), strchr(text, c));
        assert_ptr_equal(tophalf_strrchr(text, c), strrchr(text, c));
    }
}

static void test_lengths(void **state)
{
    (void)state;
    char text[40] = {0};
    for (unsigned n = 0; n < sizeof(text) - 1; n++) {
        assert_int_equal(tophalf_strlen(text), n);
        for (unsigned max = 0; max < sizeof(text); max++) {
            assert_int_equal(tophalf_strnlen(text, max), n < max ? n : max);
        }
        text[n] = 'x';
    }
}

static void test_strscpy_never_overruns(void **state)
{
    (void)state;
    char to[6];
    memset(to, '#', sizeof(to));
    assert_int_equal(strscpy(to, "abc", 5), 3);
    assert_memory_equal(to, "abc\0##", 6);
    assert_int_equal(strscpy(to, "abcdef", 5), -E2BIG);
    assert_memory_equal(to, "abcd\0#", 6);
    assert_int_equal(strscpy(to, "", 1), 0);
    assert_int_equal(to[0], 0);
    assert_int_equal(strscpy(to, "x", 0), -E2BIG);
    assert_int_equal(to[0], 0);
    assert_true(str_starts("eth0", "eth") && str_starts("eth0", "") && !str_starts("et", "eth"));
}

static void test_popcount(void **state)
{
    (void)state;
    assert_int_equal(__popcountdi2(0), 0);
    assert_int_equal(__popcountdi2(~0ul), 64);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(__popcountdi2(1ul << i), 1);
        assert_int_equal(__popcountdi2((1ul << i) - 1), i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memmove),       cmocka_unit_test(test_memcpy_memset),
        cmocka_unit_test(test_memcmp_memchr), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_popcount),      cmocka_unit_test(test_strscpy_never_overruns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
