// ELF headers: what is taken, what is refused. Then nonsense of all kinds, which must be refused or
// lead to parts that lie where they should.
// links: kernel/user/elf.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lib/errno.h>
#include "../../kernel/user/elf.h"

enum { BEGIN = 0x10000, END = 0x800000, SIZE = 4096 };

static void put(uint8_t *file, size_t at, uint64_t value, size_t bytes)
{
    memcpy(file + at, &value, bytes);
}

// Part n: type, flags, offset, address, size in the file, size in memory.
static void put_part(uint8_t *file, unsigned n, uint32_t flags, uint64_t offset, uint64_t address,
                     uint64_t file_size, uint64_t size)
{
    size_t at = 64 + n * 56;

    put(file, at, 1, 4);
    put(file, at + 4, flags, 4);
    put(file, at + 8, offset, 8);
    put(file, at + 16, address, 8);
    put(file, at + 32, file_size, 8);
    put(file, at + 40, size, 8);
}

static void make(uint8_t *file)
{
    memset(file, 0, SIZE);
    memcpy(file, "\177ELF\2\1\1", 7);
    put(file, 16, 2, 2);
    put(file, 18, 62, 2);
    put(file, 24, 0x400000, 8); // entry
    put(file, 32, 64, 8);       // program headers
    put(file, 54, 56, 2);
    put(file, 56, 2, 2);
    put_part(file, 0, 5, 1024, 0x400000, 100, 100);
    put_part(file, 1, 6, 2048, 0x401000, 10, 5000);
}

static int read_it(const uint8_t *file, struct elf *elf)
{
    return elf_read(file, SIZE, BEGIN, END, elf);
}

static void test_good(void **state)
{
    uint8_t file[SIZE];
    struct elf elf;

    (void)state;
    make(file);
    assert_int_equal(read_it(file, &elf), 0);
    assert_int_equal(elf.count, 2);
    assert_int_equal(elf.entry, 0x400000);
    assert_true(elf.segments[0].execute && !elf.segments[0].write);
    assert_true(!elf.segments[1].execute && elf.segments[1].write);
    assert_int_equal(elf.segments[1].size, 5000);
}

static void test_refused(void **state)
{
    static const struct {
        size_t at, bytes;
        uint64_t value;
    } wrong[] = {
        {0, 1, 0x7e},                  // not ELF
        {4, 1, 1},                     // 32 bits
        {16, 2, 3},                    // position-independent
        {18, 2, 3},                    // i386
        {24, 8, 0x401000},             // entry: not executable
        {24, 8, 0x400064},             // entry: behind the part
        {32, 8, SIZE - 111},           // headers reach beyond the file
        {32, 8, UINT64_MAX},           //
        {54, 2, 55},                   // size of a header
        {56, 2, 0xffff},               // their number
        {56, 2, 0},                    // nothing to load
        {64 + 4, 4, 7},                // writable and executable
        {64 + 8, 8, SIZE - 99},        // a part reaches beyond the file
        {64 + 8, 8, UINT64_MAX - 10},  //
        {64 + 16, 8, BEGIN - 1},       // too low
        {64 + 16, 8, END - 99},        // too high
        {64 + 16, 8, UINT64_MAX - 50}, // wraps
        {64 + 32, 8, 101},             // more in the file than in memory
        {64 + 40, 8, UINT64_MAX},      //
        {64 + 56 + 16, 8, 0x400fff},   // two parts in one page
        {64 + 56 + 16, 8, 0x3ff000},   // the second reaches into the first
    };
    uint8_t file[SIZE];
    struct elf elf;

    (void)state;
    for (size_t n = 0; n < sizeof(wrong) / sizeof(wrong[0]); n++) {
        make(file);
        put(file, wrong[n].at, wrong[n].value, wrong[n].bytes);
        if (read_it(file, &elf) != -ENOEXEC) {
            fail_msg("case %zu was taken", n);
        }
    }
    make(file);
    for (size_t size = 0; size < 64 + 2 * 56; size++) {
        uint8_t *exact = malloc(size + 1); // so that the sanitizer sees the end

        memcpy(exact, file, size);
        assert_int_equal(elf_read(exact, size, BEGIN, END, &elf), -ENOEXEC);
        free(exact);
    }
}

static void test_nonsense(void **state)
{
    uint8_t file[SIZE];
    struct elf elf;
    unsigned taken = 0;

    (void)state;
    srand(1);
    for (unsigned round = 0; round < 100000; round++) {
        make(file);
        for (int n = rand() % 6; n >= 0; n--) {
            file[rand() % (64 + 3 * 56)] = (uint8_t)(rand() % 3 ? rand() : rand() % 8);
        }
        if (read_it(file, &elf) != 0) {
            continue;
        }
        taken++;
        for (unsigned n = 0; n < elf.count; n++) {
            const struct elf_segment *s = &elf.segments[n];

            assert_true(s->offset + s->file_size <= SIZE && s->file_size <= s->size);
            assert_true(s->address >= BEGIN && s->address + s->size <= END);
            assert_false(s->write && s->execute);
        }
    }
    assert_true(taken > 1000 && taken < 99000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
