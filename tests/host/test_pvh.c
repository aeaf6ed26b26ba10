// PVH start information: pointers are followed only where memory is.
//
// links: boot/pvh.c boot/boot_info.c kernel/lib/string.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "boot/boot.h"

// Physical memory: 64 KiB at 1 MiB, nothing else.
enum { RAM_BASE = 0x100000, RAM_SIZE = 0x10000, INFO = RAM_BASE, LIST = RAM_BASE + 0x1000 };
static uint8_t ram[RAM_SIZE];
static struct boot_info boot;

static const void *map(phys_t address, uint64_t size)
{
    if (address < RAM_BASE || address - RAM_BASE > RAM_SIZE ||
        size > RAM_SIZE - (address - RAM_BASE)) {
        return NULL;
    }
    return ram + (address - RAM_BASE);
}

static void put(phys_t at, uint64_t value, size_t width)
{
    for (size_t n = 0; n < width; n++) {
        ram[at - RAM_BASE + n] = (uint8_t)(value >> (8 * n));
    }
}

static void start_info(uint32_t version)
{
    memset(ram, 0, sizeof(ram));
    put(INFO, PVH_START_MAGIC, 4);
    put(INFO + 4, version, 4);
}

static void region(unsigned n, uint64_t base, uint64_t size, uint32_t type)
{
    put(LIST + n * 24, base, 8);
    put(LIST + n * 24 + 8, size, 8);
    put(LIST + n * 24 + 16, type, 4);
}

static void memory_map(phys_t at, uint32_t entries)
{
    put(INFO + 40, at, 8);
    put(INFO + 48, entries, 4);
}

static void read_it(void)
{
    memset(&boot, 0, sizeof(boot));
    pvh_read(INFO, map, &boot);
}

static void assert_note(const char *part)
{
    for (uint32_t n = 0; n < boot.note_count; n++) {
        if (strstr(boot.notes[n], part)) {
            return;
        }
    }
    fail_msg("no note holds \"%s\"", part);
}

static void test_everything(void **state)
{
    (void)state;
    start_info(1);
    put(INFO + 12, 1, 4);
    put(INFO + 16, RAM_BASE + 0x3000, 8);
    put(RAM_BASE + 0x3000, 0x800000, 8);
    put(RAM_BASE + 0x3008, 0x1234, 8);
    put(RAM_BASE + 0x3010, RAM_BASE + 0x3100, 8);
    strcpy((char *)ram + 0x3100, "initrd");
    put(INFO + 24, RAM_BASE + 0x2000, 8);
    strcpy((char *)ram + 0x2000, "panic=exit");
    put(INFO + 32, 0xf59d0, 8);
    memory_map(LIST, 3);
    region(0, 0, 0x9fc00, 1);
    region(1, 0x100000, 0xfee0000, 1);
    region(2, 0xfffc0000, 0x40000, 2);
    read_it();

    assert_int_equal(boot.note_count, 0);
    assert_string_equal(boot.protocol, "PVH");
    assert_string_equal(boot.cmdline, "panic=exit");
    assert_int_equal(boot.rsdp, 0xf59d0);
    assert_int_equal(boot.region_count, 3);
    assert_int_equal(boot.regions[2].base, 0xfffc0000);
    assert_int_equal(boot.module_count, 1);
    assert_int_equal(boot.modules[0].size, 0x1234);
    assert_string_equal(boot.modules[0].name, "initrd");
}

static void test_no_start_info(void **state)
{
    (void)state;
    memset(ram, 0, sizeof(ram));
    read_it();
    assert_note("no start information");
    memset(&boot, 0, sizeof(boot));
    pvh_read(RAM_BASE + RAM_SIZE - 8, map, &boot);
    assert_note("no start information");
}

static void test_version_0(void **state)
{
    (void)state;
    start_info(0);
    memory_map(LIST, 1); // not there in version 0
    region(0, 0, 0x1000, 1);
    read_it();
    assert_int_equal(boot.region_count, 0);
    assert_note("version 0");
}

static void test_cmdline_at_the_edge(void **state)
{
    (void)state;
    start_info(1);
    put(INFO + 24, RAM_BASE + RAM_SIZE - 3, 8);
    memcpy(ram + RAM_SIZE - 3, "abc", 3); // memory ends before the text does
    read_it();
    assert_string_equal(boot.cmdline, "abc");

    start_info(1);
    put(INFO + 24, 0x7fffffff00000000, 8);
    read_it();
    assert_string_equal(boot.cmdline, "");
}

static void test_long_cmdline(void **state)
{
    (void)state;
    start_info(1);
    put(INFO + 24, RAM_BASE + 0x2000, 8);
    memset(ram + 0x2000, 'x', BOOT_MAX_CMDLINE);
    read_it();
    assert_int_equal(strlen(boot.cmdline), BOOT_MAX_CMDLINE - 1);
    assert_note("command line");
}

static void test_lists_outside_memory(void **state)
{
    (void)state;
    start_info(1);
    put(INFO + 12, 0xffffffff, 4);
    put(INFO + 16, 0xfffffffffffffff0, 8);
    memory_map(RAM_BASE + RAM_SIZE - 24 - 1, 2); // the second one crosses the end
    read_it();
    assert_int_equal(boot.module_count, 0);
    assert_note("list of modules");
    assert_note("memory map lies outside");
}

static void test_absurd_counts(void **state)
{
    (void)state;
    start_info(1);
    put(INFO + 12, 0xffffffff, 4);
    put(INFO + 16, RAM_BASE + 0x8000, 8);
    for (unsigned n = 0; n < 64; n++) {
        put(RAM_BASE + 0x8000 + n * 32, 0x1000, 8);
        put(RAM_BASE + 0x8008 + n * 32, 0x1000, 8);
    }
    memory_map(LIST, 0xffffffff);
    read_it();
    assert_int_equal(boot.module_count, BOOT_MAX_MODULES);
    assert_note("more than");
    assert_note("absurd number");
    assert_true(boot.region_count <= BOOT_MAX_REGIONS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),    cmocka_unit_test(test_no_start_info),
        cmocka_unit_test(test_version_0),     cmocka_unit_test(test_cmdline_at_the_edge),
        cmocka_unit_test(test_long_cmdline),  cmocka_unit_test(test_lists_outside_memory),
        cmocka_unit_test(test_absurd_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
