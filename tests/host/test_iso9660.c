// CDs made by hand, and most of them lie: volumes that contradict themselves, records that lead
// nowhere, names without an end. What xorriso makes: test_iso9660_xorriso.c.
//
// links: kernel/fs/iso9660_dir.c kernel/lib/string.c
#include "iso_case.h"

enum { SECTORS = 32 };

// ---- made by hand -------------------------------------------------------------------------------

static uint8_t *sector(unsigned number)
{
    return disk + (size_t)number * ISO_SECTOR_SIZE;
}

static void put_le32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

// A record; the next one may follow behind it.
static uint8_t *put_record(uint8_t *at, uint32_t extent, uint32_t size, uint8_t flags,
                           const char *name, size_t name_length, const void *use, size_t use_size)
{
    size_t use_at = 33 + name_length + (name_length % 2 == 0);
    at[0] = (uint8_t)(use_at + use_size);
    put_le32(at + 2, extent);
    put_le32(at + 10, size);
    at[25] = flags;
    at[32] = (uint8_t)name_length;
    memcpy(at + 33, name, name_length);
    if (use_size != 0) {
        memcpy(at + use_at, use, use_size);
    }
    return at + at[0];
}

static const uint8_t use_sp[] = {'S', 'P', 7, 1, 0xbe, 0xef, 0};

// A volume whose root lies in sector 18. Where its first free record may be put.
static uint8_t *make_volume(bool rock_ridge)
{
    uint8_t *d = sector(16);
    memset(disk, 0, disk_size);
    d[0] = 1;
    memcpy(d + 1, "CD001\1", 6);
    memset(d + 40, ' ', 32);
    put_le32(d + 80, SECTORS);
    d[129] = 0x08; // blocks of 2,048 bytes
    put_record(d + 156, 18, ISO_SECTOR_SIZE, 2, "", 1, NULL, 0);
    memcpy(sector(17),
           "\xff"
           "CD001\1",
           7);
    uint8_t *at = put_record(sector(18), 18, ISO_SECTOR_SIZE, 2, "", 1, use_sp,
                             rock_ridge ? sizeof(use_sp) : 0);
    return put_record(at, 18, ISO_SECTOR_SIZE, 2, "\1", 1, NULL, 0);
}

static int make_disk(void **state)
{
    (void)state;
    disk_size = SECTORS * ISO_SECTOR_SIZE;
    disk = calloc(1, disk_size);
    return disk == NULL;
}

static int free_disk(void **state)
{
    (void)state;
    free(disk);
    disk = NULL;
    return 0;
}

// ---- volumes ------------------------------------------------------------------------------------

static void test_no_volume(void **state)
{
    (void)state;
    assert_int_equal(find(), -EINVAL);
    assert_non_null(strstr(why, "no ISO 9660"));
    make_volume(false);
    disk_size = 16 * ISO_SECTOR_SIZE; // too short for a descriptor
    assert_int_equal(find(), -EINVAL);
    disk_size = SECTORS * ISO_SECTOR_SIZE;
    assert_int_equal(find(), 0);
    memcpy(sector(16), "\xff", 1); // the last one comes first
    assert_int_equal(find(), -EINVAL);
    for (unsigned i = 16; i < SECTORS; i++) { // others without an end
        memcpy(sector(i),
               "\2"
               "CD001\1",
               7);
    }
    assert_int_equal(find(), -EINVAL);
}

static void test_volume_that_contradicts_itself(void **state)
{
    (void)state;
    make_volume(false);
    uint8_t *root = sector(16) + 156;
    put_le32(root + 2, SECTORS); // begins at the end
    assert_int_equal(find(), -EINVAL);
    put_le32(root + 2, UINT32_MAX);
    assert_int_equal(find(), -EINVAL);
    put_le32(root + 2, 18);
    put_le32(root + 10, UINT32_MAX);
    assert_int_equal(find(), -EINVAL);
    put_le32(root + 10, 0);
    assert_int_equal(find(), -EINVAL);
    put_le32(root + 10, 2048);
    root[25] = 0; // a file
    assert_int_equal(find(), -EINVAL);
    root[25] = 2;
    sector(16)[129] = 0x10; // 4,096
    assert_int_equal(find(), -EINVAL);
    assert_non_null(strstr(why, "blocks"));
    sector(16)[129] = 0x08;
    put_le32(sector(16) + 80, 18); // the volume ends before its root
    assert_int_equal(find(), -EINVAL);
    put_le32(sector(16) + 80, UINT32_MAX); // larger than the disk: what there is
    assert_int_equal(find(), 0);
    assert_int_equal(volume.size, disk_size);
}

// ---- records ------------------------------------------------------------------------------------

static void test_iso_names(void **state)
{
    (void)state;
    uint8_t *at = make_volume(false);
    at = put_record(at, 20, 5, 0, "README.TXT;1", 12, NULL, 0);
    at = put_record(at, 20, 5, 0, "MAKEFILE.;1", 11, NULL, 0);
    at = put_record(at, 20, 5, 0, "A/B\x1b\xe4X;1", 8, NULL, 0);
    at = put_record(at, 20, 5, 0, ";1", 2, NULL, 0);   // no name at all
    at = put_record(at, 20, 5, 0, "..;1", 4, NULL, 0); // one that means something else
    at = put_record(at, 20, 5, 4, "FORK;1", 6, NULL, 0);
    at = put_record(at, 18, 2048, 2, "LOOP", 4, NULL, 0);
    assert_int_equal(find(), 0);
    assert_string_equal(names_of(""), "readme.txt/makefile/a?b??x/loop/");
    // A directory that contains itself: as deep as somebody asks, and no deeper.
    assert_int_equal(look_up("loop/loop/loop/loop/readme.txt"), 0);
    assert_int_equal(entry.size, 5);
}

static void test_broken_records(void **state)
{
    (void)state;
    uint8_t *at = make_volume(false);
    at = put_record(at, 20, 5, 0, "GOOD;1", 6, NULL, 0);
    assert_int_equal(find(), 0);
    uint8_t *bad = at;
    put_record(bad, 20, 5, 0, "BAD;1", 5, NULL, 0);
    bad[0] = 33; // too short
    assert_int_equal(look_up("bad"), -EINVAL);
    assert_int_equal(look_up("good"), 0); // stands before it
    bad[0] = 40;
    bad[32] = 8; // the name leaves the record
    assert_int_equal(look_up("bad"), -EINVAL);
    memset(bad, 0, 64);
    bad = sector(18) + 2048 - 40;
    put_record(bad, 20, 5, 0, "BAD;1", 5, NULL, 0);
    assert_int_equal(look_up("good"), 0);
    assert_int_equal(look_up("bad"), -ENOENT); // behind the zeroes there is nothing more
    uint8_t *end = at;
    while (end < sector(19) - 80) {
        end = put_record(end, 20, 5, 0, "FILL;1", 6, NULL, 0);
    }
    put_record(end, 20, 5, 0, "LAST;1", 6, NULL, 0);
    end[0] = (uint8_t)(sector(19) - end + 1); // crosses the sector's end
    assert_int_equal(look_up("last"), -EINVAL);
    end[0]--;
    assert_int_equal(look_up("last"), 0);
}

static void test_places_outside(void **state)
{
    (void)state;
    uint8_t *at = make_volume(false);
    uint8_t *file = at;
    at = put_record(at, SECTORS - 1, 2048, 0, "FILE;1", 6, NULL, 0);
    uint8_t *directory = at;
    put_record(at, 20, 2048, 2, "DIR", 3, NULL, 0);
    assert_int_equal(find(), 0);
    assert_int_equal(look_up("file"), 0);
    assert_true(entry.readable);
    put_le32(file + 10, 2049);
    assert_int_equal(look_up("file"), 0);
    assert_false(entry.readable);
    put_le32(file + 2, UINT32_MAX);
    file[1] = 255; // and attributes before it
    assert_int_equal(look_up("file"), 0);
    assert_false(entry.readable);
    put_le32(file + 10, 0); // an empty one lies nowhere
    assert_int_equal(look_up("file"), 0);
    assert_true(entry.readable && entry.size == 0);
    file[26] = 1; // interleaved
    put_le32(file + 2, 20);
    put_le32(file + 10, 5);
    assert_int_equal(look_up("file"), 0);
    assert_false(entry.readable);
    put_le32(directory + 2, SECTORS);
    assert_int_equal(look_up("dir/x"), -EINVAL);
    put_le32(directory + 2, 20);
    put_le32(directory + 10, 0);
    assert_int_equal(look_up("dir/x"), -EINVAL);
}

static void test_file_in_parts(void **state)
{
    (void)state;
    uint8_t *at = make_volume(false);
    at = put_record(at, 20, 4096, 0x80, "BIG;1", 5, NULL, 0);
    uint8_t *second = at;
    at = put_record(at, 22, 2048, 0x80, "BIG;1", 5, NULL, 0);
    uint8_t *third = at;
    at = put_record(at, 23, 100, 0, "BIG;1", 5, NULL, 0);
    uint8_t *next = at;
    put_record(at, 24, 7, 0, "NEXT;1", 6, NULL, 0);
    assert_int_equal(find(), 0);
    assert_string_equal(names_of(""), "big/next/");
    assert_int_equal(look_up("big"), 0);
    assert_true(entry.readable);
    assert_int_equal(entry.start, 20 * 2048);
    assert_int_equal(entry.size, 4096 + 2048 + 100);
    put_le32(second + 2, 25); // a gap
    assert_int_equal(look_up("big"), 0);
    assert_false(entry.readable);
    assert_string_equal(names_of(""), "big/next/");
    put_le32(second + 2, 22);
    put_le32(second + 10, 2000); // the next one does not follow it
    assert_int_equal(look_up("big"), 0);
    assert_false(entry.readable);
    put_le32(second + 10, 2048);
    memset(next, 0, 64);
    third[25] = 0x80; // it says that more comes, and none does
    assert_int_equal(look_up("big"), 0);
    assert_false(entry.readable);
}

// ---- Rock Ridge: names that continue ------------------------------------------------------------

static size_t put_nm(uint8_t *to, uint8_t flags, const char *text)
{
    size_t length = strlen(text);
    to[0] = 'N';
    to[1] = 'M';
    to[2] = (uint8_t)(5 + length);
    to[3] = 1;
    to[4] = flags;
    memcpy(to + 5, text, length);
    return 5 + length;
}

static size_t put_ce(uint8_t *to, uint32_t block, uint32_t offset, uint32_t size)
{
    to[0] = 'C';
    to[1] = 'E';
    to[2] = 28;
    to[3] = 1;
    put_le32(to + 4, block);
    put_le32(to + 12, offset);
    put_le32(to + 20, size);
    return 28;
}

static void test_names_that_continue(void **state)
{
    (void)state;
    uint8_t use[64];
    uint8_t *at = make_volume(true);
    size_t size = put_nm(use, 1, "One ");
    size += put_ce(use + size, 19, 100, 60);
    at = put_record(at, 20, 5, 0, "A;1", 3, use, size);
    put_nm(sector(19) + 100, 0, "Two");
    put_record(at, 20, 5, 0, "B;1", 3, NULL, 0);
    assert_int_equal(find(), 0);
    assert_true(volume.rock_ridge);
    assert_string_equal(names_of(""), "One Two/b/");
}

// A continuation that continues in itself, leads outside, or is too long to be one.
static void test_continuations_that_lie(void **state)
{
    (void)state;
    static const struct {
        uint32_t block, offset, size;
    } bad[] = {{19, 0, 28},         {SECTORS, 0, 28},    {19, 0, 0},
               {19, 0, 2049},       {UINT32_MAX, 0, 28}, {SECTORS - 1, 2040, 28},
               {0, UINT32_MAX, 28}, {19, 0, UINT32_MAX}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t use[64];
        uint8_t *at = make_volume(true);
        size_t size = put_nm(use, 0, "name");
        size += put_ce(use + size, bad[i].block, bad[i].offset, bad[i].size);
        put_record(at, 20, 5, 0, "A;1", 3, use, size);
        put_ce(sector(19), bad[i].block, bad[i].offset, bad[i].size);
        assert_int_equal(find(), 0);
        reads = 0;
        assert_string_equal(names_of(""), "name/");
        assert_true(reads < 10);
    }
}

static void test_system_use_that_lies(void **state)
{
    (void)state;
    uint8_t use[200];
    uint8_t *at = make_volume(true);
    size_t size = put_nm(use, 0, "x");
    use[2] = 100; // longer than its record
    at = put_record(at, 20, 5, 0, "A;1", 3, use, size);
    use[2] = 3; // shorter than an entry can be
    at = put_record(at, 20, 5, 0, "B;1", 3, use, size);
    size = put_nm(use, 0, "a/b\x1b");
    at = put_record(at, 20, 5, 0, "C;1", 3, use, size);
    size = put_nm(use, 2, ""); // "."
    at = put_record(at, 20, 5, 0, "D;1", 3, use, size);
    size = put_nm(use, 0, "..");
    at = put_record(at, 20, 5, 0, "E;1", 3, use, size);
    size = put_nm(use, 0, "");
    put_record(at, 20, 5, 0, "F;1", 3, use, size);
    assert_int_equal(find(), 0);
    // Its own name where the other cannot be had; none where that says nothing.
    assert_string_equal(names_of(""), "a/b/a?b?/d/");
}

// Names that together are longer than a name can be: the disc's own is shown.
static void test_name_too_long(void **state)
{
    (void)state;
    uint8_t use[64];
    char hundred[101];
    memset(hundred, 'n', 100);
    hundred[100] = '\0';
    uint8_t *at = make_volume(true);
    size_t size = put_ce(use, 19, 0, 3 * 105), place = 0;
    put_record(at, 20, 5, 0, "SHORT;1", 7, use, size);
    for (unsigned i = 0; i < 3; i++) {
        place += put_nm(sector(19) + place, 1, hundred);
    }
    assert_int_equal(find(), 0);
    assert_string_equal(names_of(""), "short/");
}

#define BY_HAND(test) cmocka_unit_test_setup_teardown(test, make_disk, free_disk)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BY_HAND(test_no_volume),
        BY_HAND(test_volume_that_contradicts_itself),
        BY_HAND(test_iso_names),
        BY_HAND(test_broken_records),
        BY_HAND(test_places_outside),
        BY_HAND(test_file_in_parts),
        BY_HAND(test_names_that_continue),
        BY_HAND(test_continuations_that_lie),
        BY_HAND(test_system_use_that_lies),
        BY_HAND(test_name_too_long),
    };
    return cmocka_run_group_tests_name("iso9660", tests, NULL, NULL);
}
