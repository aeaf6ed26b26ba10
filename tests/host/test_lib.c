// The pure library: printf, bounded text, numbers, CPU sets, strings.
//
// links: kernel/lib/format.c kernel/lib/text.c kernel/lib/parse.c kernel/lib/cpumask.c kernel/lib/errno.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <lib/cpumask.h>
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/text.h>

// What ours prints next to what the C library prints, for formats that both know.
#define SAME(...)                                                      \
    do {                                                               \
        char ours_[128], theirs_[128];                                 \
        struct text t_ = TEXT_INIT(ours_);                             \
        text_printf(&t_, __VA_ARGS__);                                 \
        int length_ = snprintf(theirs_, sizeof(theirs_), __VA_ARGS__); \
        assert_string_equal(ours_, theirs_);                           \
        assert_int_equal(t_.needed, length_);                          \
    } while (0)

static void format_agrees_with_libc(void **state)
{
    (void)state;
    SAME("%d %d %d", 0, -1, INT32_MIN);
    SAME("[%5d|%-5d|%05d|%+d|% d]", 42, 42, -42, 42, 42);
    SAME("%ld %lld %zu", INT64_MIN, (long long)INT64_MAX, SIZE_MAX);
    SAME("%x %X %#x %#X %#x %o %#o", 0xbeefu, 0xbeefu, 0xbeefu, 0xbeefu, 0u, 8u, 8u);
    SAME("%08x|%-8x|%8.4x|%.0d|%.3d", 0x1fu, 0x1fu, 0x1fu, 0, 7);
    SAME("%hhd %hd %hhu %hu", 300, 70000, 300, 70000);
    SAME("%s|%10s|%-10s|%.2s|%c|%%", "abc", "abc", "abc", "abc", 'x');
    SAME("%*d|%-*d|%.*s", 6, 1, 6, 2, 2, "wxyz");
    SAME("%lx %lX %lo", 0x123456789abcdeful, 0xfedcba987654321ul, 0777ul);
    SAME("%016llx", 0xfee00000ull);
}

static void format_pointer_and_null(void **state)
{
    char buffer[64];
    struct text t = TEXT_INIT(buffer);

    (void)state;
    text_printf(&t, "%p", (void *)0xffffffff80100000ul);
    assert_string_equal(buffer, "0xffffffff80100000");
    t = TEXT_INIT(buffer);
    const char *volatile nothing =
        NULL; // volatile: the compiler is right to object to a constant one
    text_printf(&t, "%s", nothing);
    assert_string_equal(buffer, "(null)");
}

static void text_never_overruns(void **state)
{
    char buffer[9] = "........";
    struct text t;

    (void)state;
    text_init(&t, buffer, 4);
    text_printf(&t, "%s", "abcdef");
    assert_string_equal(buffer, "abc");
    assert_int_equal(t.length, 3);
    assert_int_equal(t.needed, 6);
    assert_true(text_is_cut(&t));
    text_puts(&t, "xy");
    assert_int_equal(t.needed, 8);
    assert_memory_equal(buffer + 4, "....", 4);
    text_init(&t, buffer, 0);
    text_printf(&t, "%d", 12345);
    assert_int_equal(t.needed, 5);
}

static void text_names_bits(void **state)
{
    static const struct bit_name names[] = {{0x1, "TXDW"}, {0x4, "LSC"}, {0x80, "RXT0"}, {0, NULL}};
    char buffer[64];
    struct text t = TEXT_INIT(buffer);

    (void)state;
    text_bits(&t, 0x84, names);
    text_putc(&t, ' ');
    text_bits(&t, 0, names);
    text_putc(&t, ' ');
    text_bits(&t, 0x105, names);
    assert_string_equal(buffer, "0x84<LSC,RXT0> 0x0 0x105<TXDW,LSC,0x100>");
}

static void parse_takes_numbers_whole(void **state)
{
    uint64_t v;
    uint32_t w;
    int32_t i;

    (void)state;
    assert_int_equal(kstrtou64("18446744073709551615", 10, &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(kstrtou64("18446744073709551616", 10, &v), -ERANGE);
    assert_int_equal(kstrtou64("0x1F\n", 0, &v), 0);
    assert_int_equal(v, 31);
    assert_int_equal(kstrtou64("017", 0, &v), 0);
    assert_int_equal(v, 15);
    const char *bad[] = {"", "-", "x", "0x", "12 ", "12a", " 12", "1\n\n", "--1", "+", "08"};
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
        assert_int_equal(kstrtou64(bad[k], 0, &v), -EINVAL);
    }
    assert_int_equal(kstrtou32("4294967296", 10, &w), -ERANGE);
    assert_int_equal(kstrtos32("-2147483648", 10, &i), 0);
    assert_int_equal(i, INT32_MIN);
    assert_int_equal(kstrtos32("2147483648", 10, &i), -ERANGE);
    assert_int_equal(kstrtos32("-+1", 10, &i), -EINVAL);
}

static void parse_sizes_and_addresses(void **state)
{
    uint64_t v;
    uint32_t a;

    (void)state;
    assert_int_equal(parse_size("64M", &v), 0);
    assert_int_equal(v, 64 << 20);
    assert_int_equal(parse_size("17179869184G", &v), -ERANGE);
    assert_int_equal(parse_size("64MB", &v), -EINVAL);
    assert_int_equal(parse_ipv4("10.0.2.15", &a), 0);
    assert_int_equal(a, 0x0a00020f);
    const char *bad[] = {"",        "10.0.2",  "10.0.2.256",       "10.0.2.1.",
                         "10..2.1", "a.b.c.d", "99999999999.1.1.1"};
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
        assert_int_equal(parse_ipv4(bad[k], &a), -EINVAL);
    }
}

static void mask_text(const char *expected_hex, const char *expected_list, unsigned count,
                      const struct cpumask *m)
{
    char buffer[128];
    struct text t = TEXT_INIT(buffer);

    cpumask_show(&t, m, count);
    assert_string_equal(buffer, expected_hex);
    t = TEXT_INIT(buffer);
    cpumask_show_list(&t, m);
    assert_string_equal(buffer, expected_list);
}

static void cpumask_shows_as_linux(void **state)
{
    struct cpumask m = {0};

    (void)state;
    cpumask_set(&m, 0);
    cpumask_set(&m, 1);
    mask_text("3", "0-1", 2, &m);
    mask_text("03", "0-1", 8, &m);
    for (unsigned cpu = 0; cpu < 40; cpu++) {
        cpumask_set(&m, cpu);
    }
    mask_text("ff,ffffffff", "0-39", 40, &m);
    cpumask_clear(&m, 2);
    cpumask_clear(&m, 38);
    mask_text("bf,fffffffb", "0-1,3-37,39", 40, &m);
    assert_int_equal(cpumask_weight(&m), 38);
}

static void cpumask_parses_as_linux(void **state)
{
    struct cpumask m;

    (void)state;
    assert_int_equal(cpumask_parse("ff,ffffffff", 40, &m), 0);
    assert_int_equal(cpumask_weight(&m), 40);
    assert_int_equal(cpumask_parse("2\n", 4, &m), 0);
    assert_true(cpumask_test(&m, 1) && cpumask_weight(&m) == 1);
    assert_int_equal(cpumask_parse("10", 4, &m), -EOVERFLOW);
    assert_int_equal(cpumask_parse("00000000,00000000,00000001", 4, &m), 0);
    const char *bad[] = {"", "g", ",", "1,", "123456789", "-1", "0x2", "1 2"};
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
        assert_int_equal(cpumask_parse(bad[k], 256, &m), -EINVAL);
    }
    char wide[80];
    memset(wide, 0, sizeof(wide));
    for (size_t k = 0; k < 72; k++) {
        wide[k] = k % 9 == 8 ? ',' : '1';
    }
    wide[71] = '\0'; // eight full groups: 256 bits
    assert_int_equal(cpumask_parse(wide, 256, &m), 0);
    assert_int_equal(cpumask_parse_list("0-1,4", 8, &m), 0);
    mask_text("13", "0-1,4", 8, &m);
    assert_int_equal(cpumask_parse_list("", 8, &m), 0);
    assert_true(cpumask_empty(&m));
    assert_int_equal(cpumask_parse_list("8", 8, &m), -EOVERFLOW);
    assert_int_equal(cpumask_parse_list("99999999999999999999", 8, &m), -EOVERFLOW);
    assert_int_equal(cpumask_parse_list("3-1", 8, &m), -EINVAL);
    assert_int_equal(cpumask_parse_list("1,", 8, &m), -EINVAL);
    assert_int_equal(cpumask_parse_list("1-", 8, &m), -EINVAL);
}

static void errors_have_words(void **state)
{
    (void)state;
    assert_string_equal(strerror(-ENOENT), "No such file or directory");
    assert_string_equal(strerror(EIO), "Input/output error");
    assert_string_equal(strerror(-9999), "Unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_agrees_with_libc),   cmocka_unit_test(format_pointer_and_null),
        cmocka_unit_test(text_never_overruns),       cmocka_unit_test(text_names_bits),
        cmocka_unit_test(parse_takes_numbers_whole), cmocka_unit_test(parse_sizes_and_addresses),
        cmocka_unit_test(cpumask_shows_as_linux),    cmocka_unit_test(cpumask_parses_as_linux),
        cmocka_unit_test(errors_have_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
