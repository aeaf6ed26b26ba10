// Files: /tmp keeps what is written and no more than its share, /proc gives the same text whole and
// in pieces, /dev does what its names say.
#include <contract/ktest.h>

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <mm/slab.h>
#include <fs/mount.h>
#include <fs/vfs.h>

static int write_file(const char *path, unsigned flags, const char *text)
{
    struct file *file;
    int error = vfs_open(path, OPEN_WRITE | OPEN_CREATE | flags, &file);
    if (error != 0) {
        return error;
    }
    long count = vfs_write(file, text, strlen(text));
    vfs_close(file);
    return count == (long)strlen(text) ? 0 : (int)count;
}

static long read_file(const char *path, char *to, size_t size)
{
    struct file *file;
    int error = vfs_open(path, OPEN_READ, &file);
    if (error != 0) {
        return error;
    }
    long count = vfs_read(file, to, size - 1);
    vfs_close(file);
    to[count < 0 ? 0 : count] = '\0';
    return count;
}

KTEST(vfs, tmp_keeps_what_is_written)
{
    char text[64];
    EXPECT_EQ(write_file("/tmp/ktest", OPEN_TRUNCATE, "one\n"), 0);
    EXPECT_EQ(write_file("/tmp/ktest", OPEN_APPEND, "two\n"), 0);
    EXPECT_EQ(read_file("/tmp//./ktest", text, sizeof(text)), 8);
    EXPECT(strcmp(text, "one\ntwo\n") == 0);
    EXPECT_EQ(write_file("/tmp/ktest", OPEN_TRUNCATE, "x"), 0);
    EXPECT_EQ(read_file("/tmp/ktest", text, sizeof(text)), 1);
    EXPECT_EQ(vfs_unlink("/tmp/ktest"), 0);
    EXPECT_EQ(vfs_unlink("/tmp/ktest"), -ENOENT);
    EXPECT_EQ(read_file("/tmp/ktest", text, sizeof(text)), -ENOENT);
}

KTEST(vfs, tmp_holes_read_as_zeroes)
{
    struct file *file;
    char *data = kmalloc(3 * PAGE_SIZE, GFP_KERNEL);
    REQUIRE(data);
    EXPECT_EQ(vfs_open("/tmp/ktest", OPEN_READ | OPEN_WRITE | OPEN_CREATE, &file), 0);
    vfs_seek(file, 2 * PAGE_SIZE - 1);
    EXPECT_EQ(vfs_write(file, "ab", 2), 2);
    vfs_seek(file, 0);
    EXPECT_EQ(vfs_read(file, data, 3 * PAGE_SIZE), 2 * PAGE_SIZE + 1);
    unsigned other = 0;
    for (unsigned i = 0; i < 2 * PAGE_SIZE - 1; i++) {
        other += data[i] != 0;
    }
    EXPECT_EQ(other, 0);
    EXPECT_EQ(data[2 * PAGE_SIZE - 1], 'a');
    EXPECT_EQ(data[2 * PAGE_SIZE], 'b');
    EXPECT_EQ(vfs_read(file, data, 1), 0);
    EXPECT_EQ(vfs_unlink("/tmp/ktest"), 0);
    vfs_seek(file, 2 * PAGE_SIZE);
    EXPECT_EQ(vfs_read(file, data, 8), 1); // open: still there, though the name has gone
    vfs_close(file);
    kfree(data);
}

KTEST(vfs, tmp_ends_at_its_limit_and_gives_everything_back)
{
    struct page_stats before, after;
    struct file *file;
    char *data = kzalloc(65536, GFP_KERNEL);
    REQUIRE(data);
    page_stats(&before);
    EXPECT_EQ(vfs_open("/tmp/ktest", OPEN_WRITE | OPEN_CREATE, &file), 0);
    uint64_t total = 0;
    long count;
    while ((count = vfs_write(file, data, 65536)) > 0 && total <= 64u << 20) {
        total += (uint64_t)count;
    }
    EXPECT_EQ(count, -ENOSPC);
    EXPECT(total >= 1u << 20 && total <= 16u << 20);
    vfs_seek(file, 1ull << 60);
    EXPECT_EQ(vfs_write(file, data, 1), -ENOSPC);
    vfs_close(file);
    EXPECT_EQ(vfs_unlink("/tmp/ktest"), 0);
    page_stats(&after);
    EXPECT(after.free_bytes + (256u << 10) > before.free_bytes); // caches of the allocator apart
    kfree(data);
}

KTEST(vfs, tmp_files_are_cut_and_made_longer)
{
    struct file *file;
    struct file_info info;
    char *data = kmalloc(3 * PAGE_SIZE, GFP_KERNEL);
    REQUIRE(data);
    memset(data, 'x', 3 * PAGE_SIZE);
    EXPECT_EQ(vfs_open("/tmp/ktest", OPEN_READ | OPEN_WRITE | OPEN_CREATE, &file), 0);
    EXPECT_EQ(vfs_write(file, data, 3 * PAGE_SIZE), 3 * PAGE_SIZE);
    EXPECT_EQ(vfs_truncate(file, PAGE_SIZE + 5), 0);
    EXPECT_EQ(vfs_stat("/tmp/ktest", &info), 0);
    EXPECT_EQ(info.size, PAGE_SIZE + 5);
    EXPECT_EQ(vfs_truncate(file, 3 * PAGE_SIZE), 0); // and what comes back is zeroes
    vfs_seek(file, 0);
    EXPECT_EQ(vfs_read(file, data, 3 * PAGE_SIZE), 3 * PAGE_SIZE);
    EXPECT(data[PAGE_SIZE + 4] == 'x' && data[PAGE_SIZE + 5] == 0 && data[2 * PAGE_SIZE - 1] == 0);
    EXPECT(data[2 * PAGE_SIZE] == 0 && data[3 * PAGE_SIZE - 1] == 0);
    EXPECT_EQ(vfs_truncate(file, INT64_MAX), -EFBIG);
    EXPECT_EQ(vfs_truncate(file, 0), 0);
    vfs_close(file);
    EXPECT_EQ(vfs_open("/tmp/ktest", OPEN_READ, &file), 0);
    EXPECT_EQ(vfs_truncate(file, 0), -EINVAL); // not open for writing
    vfs_close(file);
    EXPECT_EQ(vfs_unlink("/tmp/ktest"), 0);
    EXPECT_EQ(vfs_open("/dev/null", OPEN_WRITE, &file), 0);
    EXPECT_EQ(vfs_truncate(file, 0), -EINVAL);
    vfs_close(file);
    kfree(data);
}

KTEST(vfs, tmp_refuses_names_that_are_none)
{
    char path[PATH_MAX_LENGTH + 16];
    memset(path, 'n', sizeof(path));
    memcpy(path, "/tmp/", 5);
    path[5 + 64] = '\0'; // what /tmp has room for
    EXPECT_EQ(write_file(path, 0, "x"), -ENAMETOOLONG);
    path[5 + 64] = 'n';
    path[sizeof(path) - 1] = '\0';
    EXPECT_EQ(write_file(path, 0, "x"), -ENAMETOOLONG);
    EXPECT_EQ(write_file("/tmp/a/b", 0, "x"), -ENOENT);
    EXPECT_EQ(write_file("/tmp", 0, "x"), -EISDIR);
    EXPECT_EQ(write_file("/", 0, "x"), -EISDIR);
    EXPECT_EQ(write_file("/nowhere/x", 0, "x"), -ENOENT);
    EXPECT_EQ(vfs_unlink("/proc/version"), -EPERM);
}

KTEST(vfs, mounts_that_are_refused)
{
    const char *why;
    EXPECT_EQ(vfs_mount("/dev/none", "/ktest", NULL, &why), -ENODEV);
    EXPECT_EQ(vfs_mount("/dev/zero", "/ktest", NULL, &why), -ENODEV);
    EXPECT(strcmp(why, "not a block device") == 0);
    EXPECT_EQ(vfs_mount("/dev/none", "/tmp", NULL, &why), -EBUSY);
    EXPECT_EQ(vfs_mount("/dev/none", "/tmp/below", NULL, &why), -EINVAL);
    EXPECT_EQ(vfs_mount("/dev/none", "/", NULL, NULL), -EINVAL);
    EXPECT_EQ(vfs_mount("/dev/none", "/..//ktest/.", NULL, NULL), -ENODEV); // a name like any other
    EXPECT_EQ(vfs_umount("/ktest"), -EINVAL);
    EXPECT_EQ(vfs_umount("/proc"), -EINVAL);
    EXPECT_EQ(vfs_stat("/ktest", &(struct file_info){0}), -ENOENT);
}

// Whoever looks at /proc/mounts must not have his terminal moved about by it.
KTEST(vfs, mount_points_are_plain)
{
    static const char *const names[] = {"/\x1b[2J", "/a\nb", "/\x7f", "/caf\xc3\xa9", "/a b"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        const char *why = NULL;
        EXPECT_EQ(vfs_mount("/dev/null", names[i], NULL, &why), -EINVAL);
        EXPECT(why != NULL && strncmp(why, "a mount point has no blanks", 20) == 0);
    }
}

KTEST(vfs, proc_text_is_the_same_in_pieces)
{
    static char whole[2048], pieces[2048];
    struct file *file;
    long length = read_file("/proc/version", whole, sizeof(whole));
    EXPECT(length > 10);
    EXPECT_EQ(vfs_open("/proc/version", OPEN_READ, &file), 0);
    long at = 0, count;
    while ((count = vfs_read(file, pieces + at, 3)) > 0 && at < length) {
        at += count;
    }
    EXPECT_EQ(count, 0);
    EXPECT_EQ(at, length);
    EXPECT(memcmp(whole, pieces, (size_t)length) == 0);
    vfs_seek(file, 1ull << 40);
    EXPECT_EQ(vfs_read(file, pieces, 1), 0);
    vfs_close(file);
}

KTEST(vfs, every_name_in_proc_can_be_read)
{
    char name[NAME_MAX_LENGTH], path[PATH_MAX_LENGTH], data[256];
    unsigned files = 0;
    for (unsigned k = 0; vfs_list("/proc", k, name, sizeof(name)) == 0; k++) {
        struct file_info info;
        snprintf(path, sizeof(path), "/proc/%s", name);
        EXPECT_EQ(vfs_stat(path, &info), 0);
        if (info.type == FILE_DIRECTORY) {
            EXPECT_EQ(vfs_list(path, 0, data, sizeof(data)), 0); // none is empty
            continue;
        }
        files++;
        EXPECT(read_file(path, data, sizeof(data)) >= 0);
        if (!info.writable) {
            EXPECT_EQ(write_file(path, 0, "\n"), -EPERM);
        }
    }
    EXPECT(files >= 10);
}

KTEST(vfs, small_devices_do_what_their_names_say)
{
    char data[64], more[64];
    memset(data, 1, sizeof(data));
    EXPECT_EQ(read_file("/dev/null", data, sizeof(data)), 0);
    EXPECT_EQ(write_file("/dev/null", 0, "gone"), 0);
    EXPECT_EQ(write_file("/dev/full", 0, "x"), -ENOSPC);
    EXPECT_EQ(read_file("/dev/zero", data, sizeof(data)), 63);
    for (unsigned i = 0; i < 63; i++) {
        EXPECT_EQ(data[i], 0);
    }
    EXPECT_EQ(read_file("/dev/random", data, sizeof(data)), 63);
    EXPECT_EQ(read_file("/dev/urandom", more, sizeof(more)), 63);
    EXPECT(memcmp(data, more, 63) != 0);
    EXPECT_EQ(write_file("/dev/nothing", 0, "x"), -EPERM);
    EXPECT_EQ(read_file("/dev/nothing", data, sizeof(data)), -ENOENT);
}
