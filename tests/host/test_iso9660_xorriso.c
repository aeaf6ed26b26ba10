// CDs as xorriso makes them, read back name by name; skipped where it is not installed. Discs that
// lie: test_iso9660.c.
//
// links: kernel/fs/iso9660_dir.c kernel/lib/string.c
#include <unistd.h>

#include "iso_case.h"

// Long enough for a continuation area, as a record has 255 bytes.
#define LONG_NAME                                                                            \
    "a name of two hundred letters, which no record of a directory has room for, so that a " \
    "second area must hold the rest of it, somewhere else on the disc: x23456789 x23456789 " \
    "x23456789 x23456789 xend.text"

static char folder[] = "/tmp/tophalf-iso-XXXXXX";

static void write_file(const char *name, const char *text, size_t copies)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/tree/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < copies; i++) {
        assert_true(fputs(text, file) >= 0);
    }
    fclose(file);
}

static int make_tree(void **state)
{
    (void)state;
    char command[300];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command), "mkdir -p %s/tree/sub/deeper %s/tree/many", folder, folder);
    assert_int_equal(system(command), 0);
    write_file("ReadMe.Text", "hello\n", 1);
    write_file("empty", "", 1);
    write_file("sub/deeper/large", "0123456789abcde\n", 10000);
    write_file(LONG_NAME, "long\n", 1);
    for (unsigned i = 0; i < 100; i++) { // more than a sector's worth of records
        char name[32];
        snprintf(name, sizeof(name), "many/file%02u.txt", i);
        write_file(name, "x", i);
    }
    snprintf(command, sizeof(command), "ln -s ReadMe.Text %s/tree/link", folder);
    assert_int_equal(system(command), 0);
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    char command[100];
    free(disk);
    disk = NULL;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

// Has the tree made into an image with these options, and loads it.
static void load_image(const char *options)
{
    char command[500];
    if (system("command -v xorriso >/dev/null 2>&1") != 0) {
        skip();
    }
    snprintf(command, sizeof(command),
             "xorriso -as mkisofs -quiet %s -o %s/cd.iso %s/tree >%s/log 2>&1", options, folder,
             folder, folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof(command), "%s/cd.iso", folder);
    FILE *file = fopen(command, "r");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    disk_size = (size_t)ftell(file);
    rewind(file);
    free(disk);
    disk = malloc(disk_size);
    assert_int_equal(fread(disk, 1, disk_size, file), disk_size);
    fclose(file);
    assert_int_equal(find(), 0);
    assert_null(why);
}

static void check_file(const char *path, const char *text, size_t copies)
{
    size_t length = strlen(text);
    assert_int_equal(look_up(path), 0);
    assert_int_equal(entry.kind, ISO_REGULAR);
    assert_true(entry.readable);
    assert_int_equal(entry.size, length * copies);
    for (size_t i = 0; i < copies; i++) {
        assert_memory_equal(disk + entry.start + i * length, text, length);
    }
}

static void test_rock_ridge(void **state)
{
    (void)state;
    load_image("-R -V TOPHALF");
    assert_true(volume.rock_ridge);
    assert_string_equal(volume.label, "TOPHALF");
    assert_int_equal(volume.block_size, 2048);
    check_file("ReadMe.Text", "hello\n", 1);
    check_file("empty", "", 1);
    check_file("sub/deeper/large", "0123456789abcde\n", 10000);
    check_file(LONG_NAME, "long\n", 1);
    assert_int_equal(look_up("link"), 0);
    assert_int_equal(entry.kind, ISO_LINK);
    assert_int_equal(look_up("sub/deeper"), 0);
    assert_int_equal(entry.kind, ISO_DIRECTORY);
    assert_int_equal(look_up(""), 0);
    assert_int_equal(entry.kind, ISO_DIRECTORY);
    assert_int_equal(look_up("readme.text"), -ENOENT); // letters are what they are
    assert_int_equal(look_up("sub/nothing"), -ENOENT);
    assert_int_equal(look_up("ReadMe.Text/x"), -ENOTDIR);
    assert_string_equal(names_of("sub"), "deeper/");
}

static void test_names_of_its_own(void **state)
{
    (void)state;
    load_image("--norock -iso-level 1");
    assert_false(volume.rock_ridge);
    check_file("readme.tex", "hello\n", 1);
    check_file("sub/deeper/large", "0123456789abcde\n", 10000);
}

static void test_directory_of_several_sectors(void **state)
{
    (void)state;
    load_image("-R");
    unsigned count = 0;
    const char *names = names_of("many");
    for (const char *c = names; *c != '\0'; c++) {
        count += *c == '/';
    }
    assert_int_equal(count, 100);
    check_file("many/file99.txt", "x", 99);
    check_file("many/file00.txt", "x", 0);
}

static void test_joliet_beside_it(void **state)
{
    (void)state;
    load_image("-J -R");
    check_file("sub/deeper/large", "0123456789abcde\n", 10000);
}

// An image that was cut off: what is still there is read, the rest refused.
static void test_cut_image(void **state)
{
    (void)state;
    load_image("-R");
    assert_int_equal(look_up("sub/deeper/large"), 0);
    disk_size = entry.start + 1000;
    disk = realloc(disk, disk_size);
    assert_int_equal(find(), 0);
    assert_int_equal(volume.size, disk_size);
    assert_int_equal(look_up("sub/deeper/large"), 0);
    assert_false(entry.readable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rock_ridge),
        cmocka_unit_test(test_names_of_its_own),
        cmocka_unit_test(test_directory_of_several_sectors),
        cmocka_unit_test(test_joliet_beside_it),
        cmocka_unit_test(test_cut_image),
    };
    return cmocka_run_group_tests_name("iso9660_xorriso", tests, make_tree, remove_tree);
}
