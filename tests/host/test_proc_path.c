// Paths: how they are cleaned, and what they mean below /proc.
//
// links: kernel/fs/path.c kernel/proc/lookup.c kernel/lib/format.c kernel/lib/text.c kernel/lib/string.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <lib/errno.h>
#include "kernel/fs/path.h"
#include "kernel/proc/lookup.h"

static void clean(const char *path, const char *expected)
{
    char to[64];
    assert_int_equal(path_normalize(path, to, sizeof(to)), 0);
    assert_string_equal(to, expected);
}

static void test_paths_are_cleaned(void **state)
{
    (void)state;
    clean("/", "/");
    clean("//", "/");
    clean(".", "/");
    clean("..", "/");
    clean("/../../..", "/");
    clean("/proc/", "/proc");
    clean("proc", "/proc");
    clean("/proc//irq/./24/../25", "/proc/irq/25");
    clean("/a/b/../../c", "/c");
    clean("/...", "/...");
    clean("/.a/..b", "/.a/..b");
}

static void test_paths_that_are_none(void **state)
{
    (void)state;
    char to[8];
    assert_int_equal(path_normalize("", to, sizeof(to)), -ENOENT);
    assert_int_equal(path_normalize("/123456", to, sizeof(to)), 0);
    assert_int_equal(path_normalize("/1234567", to, sizeof(to)), -ENAMETOOLONG);
    assert_int_equal(path_normalize("/1234/..//56", to, sizeof(to)), 0);
    assert_string_equal(to, "/56");
}

static void test_below_a_mount_point(void **state)
{
    (void)state;
    assert_string_equal(path_below("/proc", "/proc"), "");
    assert_string_equal(path_below("/proc/irq/1", "/proc"), "irq/1");
    assert_null(path_below("/process", "/proc"));
    assert_null(path_below("/", "/proc"));
}

static void show(struct text *t, unsigned long index)
{
    (void)t;
    (void)index;
}

// Three irqs: 0, 9 and 24.
static long next_irq(unsigned long from)
{
    static const unsigned long irqs[] = {0, 9, 24};
    for (size_t i = 0; i < 3; i++) {
        if (irqs[i] >= from) {
            return (long)irqs[i];
        }
    }
    return -1;
}

static const char *handlers(unsigned long index, unsigned k)
{
    static const char *const names[] = {"eth0", "edu"};
    return index == 24 && k < 2 ? names[k] : NULL;
}

static const struct proc_file records[] = {
    {.path = "version", .show = show},
    {.path = "irq/*/spurious", .show = show, .next = next_irq},
    {.path = "irq/*", .next = next_irq, .names = handlers},
    {.path = "irq/*/node", .show = show, .next = next_irq},
    {.path = "irq/default_smp_affinity", .show = show},
    {.path = "net/dev", .show = show},
    {.path = "net/arp", .show = show},
};
static const struct proc_set set = {records, records + sizeof(records) / sizeof(records[0])};

static struct proc_node look(const char *path)
{
    struct proc_node node;
    proc_lookup(&set, path, &node);
    return node;
}

static void test_lookup(void **state)
{
    (void)state;
    assert_int_equal(look("").kind, PROC_DIRECTORY);
    assert_int_equal(look("version").kind, PROC_REGULAR);
    assert_ptr_equal(look("version").record, &records[0]);
    assert_int_equal(look("net").kind, PROC_DIRECTORY);
    assert_int_equal(look("net/arp").kind, PROC_REGULAR);
    assert_int_equal(look("net/ar").kind, PROC_NOTHING);
    assert_int_equal(look("ne").kind, PROC_NOTHING);
    assert_int_equal(look("version/x").kind, PROC_NOTHING);
}

static void test_numbers_in_paths(void **state)
{
    (void)state;
    struct proc_node node = look("irq/24/spurious");
    assert_int_equal(node.kind, PROC_REGULAR);
    assert_int_equal(node.index, 24);
    assert_int_equal(look("irq/0/node").kind, PROC_REGULAR);
    assert_int_equal(look("irq/9").kind, PROC_DIRECTORY);
    assert_int_equal(look("irq/24/edu").kind, PROC_NAME);
    static const char *const none[] = {"irq/1",     "irq/25",       "irq/09",         "irq/+9",
                                       "irq/-1",    "irq/x",        "irq/24/none",    "irq/9/edu",
                                       "irq/*",     "irq/24/edu/x", "irq/9999999999", "irq/24 ",
                                       "irq/*/node"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        if (look(none[i]).kind != PROC_NOTHING) {
            fail_msg("%s is something", none[i]);
        }
    }
}

static void test_lists(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *names[6];
    } lists[] = {
        {"", {"version", "irq", "net"}},
        {"irq", {"default_smp_affinity", "0", "9", "24"}},
        {"irq/24", {"spurious", "eth0", "edu", "node"}},
        {"irq/9", {"spurious", "node"}},
        {"net", {"dev", "arp"}},
        {"irq/24/edu", {NULL}},
        {"irq/5", {NULL}},
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        char name[32];
        unsigned k = 0;
        for (; lists[i].names[k]; k++) {
            assert_int_equal(proc_list(&set, lists[i].path, k, name, sizeof(name)), 0);
            assert_string_equal(name, lists[i].names[k]);
        }
        assert_int_equal(proc_list(&set, lists[i].path, k, name, sizeof(name)), -ENOENT);
    }
    char name[4];
    assert_int_equal(proc_list(&set, "version", 0, name, sizeof(name)), -ENOTDIR);
    assert_int_equal(proc_list(&set, "", 0, name, sizeof(name)), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_are_cleaned),   cmocka_unit_test(test_paths_that_are_none),
        cmocka_unit_test(test_below_a_mount_point), cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_numbers_in_paths),    cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
