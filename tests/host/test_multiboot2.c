// Multiboot2 information: what a loader says arrives, and what makes no sense is left out by name.
//
// links: boot/multiboot2.c boot/boot_info.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "boot/boot.h"

// The information structure under construction. It is handed over in a block of exactly its size,
// so that AddressSanitizer sees each byte read too many.
static uint8_t bytes[65536];
static size_t used;
static struct boot_info boot;

static void put(uint64_t value, size_t width)
{
    for (size_t n = 0; n < width; n++) {
        bytes[used++] = (uint8_t)(value >> (8 * n));
    }
}

static void info_begin(void)
{
    memset(bytes, 0, sizeof(bytes));
    used = 8;
}

// Begins a tag; `size` counts its header of 8 bytes.
static void tag(uint32_t type, uint32_t size)
{
    used = (used + 7) & ~(size_t)7;
    put(type, 4);
    put(size, 4);
}

static void tag_text(uint32_t type, const char *text)
{
    tag(type, 8 + (uint32_t)strlen(text) + 1);
    memcpy(bytes + used, text, strlen(text) + 1);
    used += strlen(text) + 1;
}

static void read_claiming(size_t total)
{
    size_t end = used;
    used = 0;
    put(total, 4);
    put(0, 4);
    uint8_t *exact = malloc(end);
    memcpy(exact, bytes, end);
    memset(&boot, 0, sizeof(boot));
    multiboot2_read(exact, end, &boot);
    free(exact);
    used = end;
}

static void read_all(void)
{
    read_claiming(used);
}

static void end_and_read(void)
{
    tag(0, 8);
    read_all();
}

static void assert_note(const char *part)
{
    for (uint32_t n = 0; n < boot.note_count; n++) {
        if (strstr(boot.notes[n], part)) {
            return;
        }
    }
    fail_msg("no note holds \"%s\" (%u notes, first: %s)", part, boot.note_count,
             boot.note_count ? boot.notes[0] : "none");
}

static void map_entry(uint64_t base, uint64_t size, uint32_t type)
{
    put(base, 8);
    put(size, 8);
    put(type, 4);
    put(0, 4);
}

static void framebuffer(uint64_t base, uint32_t pitch, uint32_t width, uint32_t height, uint8_t bpp,
                        uint8_t kind)
{
    tag(8, 38);
    put(base, 8);
    put(pitch, 4);
    put(width, 4);
    put(height, 4);
    put(bpp, 1);
    put(kind, 1);
    put(0, 2);
    const uint8_t channels[] = {16, 8, 8, 8, 0, 8};
    for (size_t n = 0; n < sizeof(channels); n++) {
        put(channels[n], 1);
    }
}

static void test_everything(void **state)
{
    (void)state;
    info_begin();
    tag_text(1, "quiet ip=dhcp");
    tag_text(2, "GRUB 2.06");
    tag(3, 16 + 6);
    put(0x800000, 4);
    put(0x801000, 4);
    memcpy(bytes + used, "disk0", 6);
    used += 6;
    tag(6, 16 + 3 * 24);
    put(24, 4);
    put(0, 4);
    map_entry(0, 0x9fc00, 1);
    map_entry(0x9fc00, 0x400, 2);
    map_entry(0x100000, 0xff00000, 1);
    framebuffer(0xfd000000, 4096, 1024, 768, 32, 1);
    tag(12, 16);
    put(0x1122334455, 8);
    tag(14, 28);
    memcpy(bytes + used, "RSD PTR old.........", 20);
    used += 20;
    tag(15, 44);
    memcpy(bytes + used, "RSD PTR new.........................", 36);
    used += 36;
    tag(17, 16); // one that we don't want
    put(0, 8);
    end_and_read();

    assert_int_equal(boot.note_count, 0);
    assert_string_equal(boot.protocol, "multiboot2");
    assert_string_equal(boot.cmdline, "quiet ip=dhcp");
    assert_string_equal(boot.loader, "GRUB 2.06");
    assert_int_equal(boot.module_count, 1);
    assert_int_equal(boot.modules[0].base, 0x800000);
    assert_int_equal(boot.modules[0].size, 0x1000);
    assert_string_equal(boot.modules[0].name, "disk0");
    assert_int_equal(boot.region_count, 3);
    assert_int_equal(boot.regions[0].size, 0x9fc00);
    assert_int_equal(boot.regions[1].type, BOOT_REGION_RESERVED);
    assert_int_equal(boot.regions[2].base, 0x100000);
    assert_int_equal(boot.regions[2].size, 0xff00000);
    assert_int_equal(boot.framebuffer.kind, 1);
    assert_int_equal(boot.framebuffer.base, 0xfd000000);
    assert_int_equal(boot.framebuffer.red_shift, 16);
    assert_int_equal(boot.framebuffer.blue_bits, 8);
    assert_true(boot.efi_system_table == 0x1122334455);
    assert_int_equal(boot.rsdp, 0);
    assert_int_equal(boot.rsdp_copy_size, 36);
    assert_memory_equal(boot.rsdp_copy, "RSD PTR new", 11);
}

static void test_new_rsdp_first(void **state)
{
    (void)state;
    info_begin();
    tag(15, 44);
    memset(bytes + used, 'n', 36);
    used += 36;
    tag(14, 28);
    memset(bytes + used, 'o', 20);
    used += 20;
    end_and_read();
    assert_int_equal(boot.rsdp_copy_size, 36);
    assert_int_equal(boot.rsdp_copy[0], 'n');
}

static void test_short_rsdp(void **state)
{
    (void)state;
    info_begin();
    tag(14, 27);
    used += 19;
    tag(15, 28);
    used += 20;
    end_and_read();
    assert_int_equal(boot.rsdp_copy_size, 0);
    assert_note("tag 14");
    assert_note("tag 15");
}

static void test_absurd_sizes(void **state)
{
    (void)state;
    const uint32_t totals[] = {0, 1, 7};
    for (size_t n = 0; n < 3; n++) {
        info_begin();
        tag_text(1, "never seen");
        read_claiming(totals[n]);
        assert_string_equal(boot.cmdline, "");
        assert_note("no end tag");
    }
    info_begin();
    tag_text(1, "seen");
    tag(0, 8);
    read_claiming(0xffffffff);
    assert_string_equal(boot.cmdline, "seen");
    assert_note("absurd size");

    memset(&boot, 0, sizeof(boot));
    multiboot2_read(NULL, 0, &boot);
    assert_note("no information structure");
}

static void test_tag_sizes(void **state)
{
    (void)state;
    const uint32_t sizes[] = {0, 7, 17, 0x7fffffff, 0xfffffff8, 0xffffffff};
    for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
        info_begin();
        tag(6, sizes[n]); // followed by eight bytes only
        put(0, 8);
        read_all();
        assert_int_equal(boot.region_count, 0);
        assert_note("larger than its surroundings");
    }
}

static void test_no_end_tag(void **state)
{
    (void)state;
    info_begin();
    tag_text(1, "abc"); // 12 bytes: the padding to 16 is missing as well
    read_all();
    assert_string_equal(boot.cmdline, "abc");
    assert_note("no end tag");
}

static void test_unterminated_text(void **state)
{
    (void)state;
    info_begin();
    tag(1, 8 + 5);
    memcpy(bytes + used, "abcde", 5);
    used += 5;
    read_all();
    assert_string_equal(boot.cmdline, "abcde");

    info_begin();
    tag(1, 8);
    end_and_read();
    assert_string_equal(boot.cmdline, "");
    assert_int_equal(boot.note_count, 0);
}

static void test_long_cmdline(void **state)
{
    (void)state;
    static char line[BOOT_MAX_CMDLINE + 1];

    memset(line, 'x', sizeof(line) - 1);
    line[BOOT_MAX_CMDLINE - 1] = '\0';
    info_begin();
    tag_text(1, line);
    end_and_read();
    assert_int_equal(strlen(boot.cmdline), BOOT_MAX_CMDLINE - 1);
    assert_int_equal(boot.note_count, 0);

    line[BOOT_MAX_CMDLINE - 1] = 'x';
    info_begin();
    tag_text(1, line);
    end_and_read();
    assert_int_equal(strlen(boot.cmdline), BOOT_MAX_CMDLINE - 1);
    assert_note("tag 1");
}

static void map_with(uint32_t entry_size, unsigned entries, uint32_t extra)
{
    info_begin();
    tag(6, 16 + entries * entry_size + extra);
    put(entry_size, 4);
    put(0, 4);
    for (unsigned n = 0; n < entries; n++) {
        size_t start = used;
        put((uint64_t)n * 0x200000, 8);
        put(0x100000, 8);
        put(1, 4);
        used = start + entry_size;
    }
    used += extra;
    end_and_read();
}

static void test_map_entry_sizes(void **state)
{
    (void)state;
    map_with(20, 3, 0);
    assert_int_equal(boot.region_count, 3);
    map_with(24, 3, 0);
    assert_int_equal(boot.region_count, 3);
    map_with(40, 3, 0);
    assert_int_equal(boot.region_count, 3);
    assert_int_equal(boot.regions[2].base, 0x400000);
    map_with(24, 2, 23);
    assert_int_equal(boot.region_count, 2);
    assert_note("cut off");

    const uint32_t bad[] = {0, 1, 19};
    for (size_t n = 0; n < 3; n++) {
        info_begin();
        tag(6, 16 + 48);
        put(bad[n], 4);
        used += 4 + 48;
        end_and_read();
        assert_int_equal(boot.region_count, 0);
        assert_note("tag 6");
    }
    info_begin();
    tag(6, 16 + 48);
    put(0xffffffff, 4);
    used += 4 + 48;
    end_and_read();
    assert_int_equal(boot.region_count, 0);
    info_begin();
    tag(6, 15);
    used += 7;
    end_and_read();
    assert_note("tag 6");
}

static void test_map_entries(void **state)
{
    (void)state;
    info_begin();
    tag(6, 16 + 6 * 24);
    put(24, 4);
    put(0, 4);
    map_entry(0x1000, 0, 1);                  // empty
    map_entry(0xfffffffffffff000, 0x2000, 1); // wraps
    map_entry(0x1000, 0x1000, 1);
    map_entry(0x2000, 0x1000, 1);  // goes on
    map_entry(0x3000, 0x1000, 20); // unknown: reserved
    map_entry(0x4000, 0x1000, 0);  // unknown: reserved, goes on
    end_and_read();
    assert_int_equal(boot.region_count, 2);
    assert_int_equal(boot.regions[0].size, 0x2000);
    assert_int_equal(boot.regions[1].base, 0x3000);
    assert_int_equal(boot.regions[1].size, 0x2000);
    assert_int_equal(boot.regions[1].type, BOOT_REGION_RESERVED);
    assert_note("wraps");
}

static void test_too_many_regions(void **state)
{
    (void)state;
    map_with(24, BOOT_MAX_REGIONS, 0);
    assert_int_equal(boot.region_count, BOOT_MAX_REGIONS);
    assert_int_equal(boot.note_count, 0);
    map_with(24, BOOT_MAX_REGIONS + 1, 0);
    assert_int_equal(boot.region_count, BOOT_MAX_REGIONS);
    assert_note("more regions");
}

static void module(uint32_t start, uint32_t end, const char *name, uint32_t length)
{
    tag(3, 16 + length);
    put(start, 4);
    put(end, 4);
    memcpy(bytes + used, name, length);
    used += length;
}

static void test_modules(void **state)
{
    (void)state;
    static char long_name[200];
    memset(long_name, 'm', sizeof(long_name));

    info_begin();
    module(0x2000, 0x1000, "backwards", 10);
    module(0x1000, 0x1000, "empty", 6);
    module(0x1000, 0x2000, long_name, sizeof(long_name)); // no NUL
    module(0x3000, 0x4000, "", 0);
    tag(3, 12);
    put(0, 4);
    end_and_read();
    assert_int_equal(boot.module_count, 2);
    assert_int_equal(strlen(boot.modules[0].name), sizeof(boot.modules[0].name) - 1);
    assert_string_equal(boot.modules[1].name, "");
    assert_note("ends before it starts");
    assert_note("empty");
    assert_note("tag 3 (module): too short");

    info_begin();
    for (unsigned n = 0; n <= BOOT_MAX_MODULES; n++) {
        module(0x1000, 0x2000, "m", 2);
    }
    end_and_read();
    assert_int_equal(boot.module_count, BOOT_MAX_MODULES);
    assert_note("module: more");
}

static void test_framebuffers(void **state)
{
    (void)state;
    const struct {
        uint64_t base;
        uint32_t pitch, width, height;
        uint8_t bpp, kind;
        bool good;
    } cases[] = {
        {0xfd000000, 4096, 1024, 768, 32, 1, true},
        {0xfd000000, 2400, 800, 600, 24, 1, true},
        {0xb8000, 160, 80, 25, 16, 2, true},
        {0xfd000000, 4095, 1024, 768, 32, 1, false}, // lines longer than the pitch
        {0xfd000000, 4096, 0, 768, 32, 1, false},
        {0xfd000000, 4096, 1024, 0, 32, 1, false},
        {0xfd000000, 4096, 1024, 768, 8, 1, false}, // channels do not fit
        {0xfd000000, 4096, 1024, 768, 0, 1, false},
        {0xfd000000, 1024, 1024, 768, 8, 0, false}, // indexed colour
        {0xfd000000, 4096, 1024, 768, 32, 9, false},
        {0, 4096, 1024, 768, 32, 1, false},
        {0xfffffffffffff000, 4096, 1024, 768, 32, 1, false}, // wraps
        {0xfd000000, 0xffffffff, 0x3fffffff, 768, 32, 1, false},
        {0xb8000, 100, 80, 25, 16, 2, false},
    };
    for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
        info_begin();
        framebuffer(cases[n].base, cases[n].pitch, cases[n].width, cases[n].height, cases[n].bpp,
                    cases[n].kind);
        end_and_read();
        if (cases[n].good) {
            assert_int_equal(boot.framebuffer.kind, cases[n].kind);
            assert_int_equal(boot.note_count, 0);
        } else {
            assert_int_equal(boot.framebuffer.kind, 0);
            assert_note("tag 8");
        }
    }
    info_begin();
    tag(8, 30);
    used += 22;
    end_and_read();
    assert_note("tag 8 (framebuffer): too short");
}

static void test_short_efi(void **state)
{
    (void)state;
    info_begin();
    tag(12, 12);
    put(0x1234, 4);
    end_and_read();
    assert_int_equal(boot.efi_system_table, 0);
    assert_note("tag 12");
}

// Complaints beyond the room for them are dropped, not written past the end.
static void test_many_notes(void **state)
{
    (void)state;
    info_begin();
    for (unsigned n = 0; n < 10 * BOOT_MAX_NOTES; n++) {
        tag(12, 8);
    }
    end_and_read();
    assert_int_equal(boot.note_count, BOOT_MAX_NOTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),        cmocka_unit_test(test_new_rsdp_first),
        cmocka_unit_test(test_short_rsdp),        cmocka_unit_test(test_absurd_sizes),
        cmocka_unit_test(test_tag_sizes),         cmocka_unit_test(test_no_end_tag),
        cmocka_unit_test(test_unterminated_text), cmocka_unit_test(test_long_cmdline),
        cmocka_unit_test(test_map_entry_sizes),   cmocka_unit_test(test_map_entries),
        cmocka_unit_test(test_too_many_regions),  cmocka_unit_test(test_modules),
        cmocka_unit_test(test_framebuffers),      cmocka_unit_test(test_short_efi),
        cmocka_unit_test(test_many_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
