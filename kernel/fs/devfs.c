// /dev: the kernel's own small devices, the console, the serial lines and every disk. Numbers are
// Linux's (Documentation/admin-guide/ devices.txt), for whoever looks at `ls -l`.
//
// A disk is found when it is opened, and held by a reference: it may go away underneath, reads and
// writes then say so. They go through the page cache, but for OPEN_DIRECT.
//
// random and urandom are the same: SHA-256 over a state that takes in the time-stamp counter at
// each draw, and of which only a digest ever leaves. There is no count of entropy and no claim to
// be fit for keys.
//
// Context: thread.
#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/filesystem.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <dev/block.h>
#include <dev/page_cache.h>
#include <dev/tty.h>
#include <char/uart.h>

struct dev_node {
    const char *name;
    uint16_t major, minor;
    long (*read)(void *to, size_t size);
    long (*write)(const void *from, size_t size);
    bool (*present)(void); // NULL: always there
};

static long dev_read_nothing(void *to, size_t size)
{
    (void)to;
    (void)size;
    return 0;
}

static long dev_write_nothing(const void *from, size_t size)
{
    (void)from;
    return (long)size;
}

static long dev_read_zero(void *to, size_t size)
{
    memset(to, 0, size);
    return (long)size;
}

static long dev_write_full(const void *from, size_t size)
{
    (void)from;
    (void)size;
    return -ENOSPC;
}

static DEFINE_MUTEX(random_mutex);
static struct {
    uint8_t state[SHA256_SIZE]; // L
    uint64_t draws;             // L
} dev_random;

// One draw: state = SHA-256(state, draw number, time, `purpose` 0); output = SHA-256(the same with
// purpose 1). The old state cannot be had from the new one, nor the state from what was given out.
static void random_digest(uint8_t out[SHA256_SIZE], uint8_t purpose, uint64_t time)
{
    struct sha256 hash;
    sha256_init(&hash);
    sha256_update(&hash, dev_random.state, sizeof(dev_random.state));
    sha256_update(&hash, &dev_random.draws, sizeof(dev_random.draws));
    sha256_update(&hash, &time, sizeof(time));
    sha256_update(&hash, &purpose, 1);
    sha256_final(&hash, out);
}

static long dev_read_random(void *to, size_t size)
{
    uint8_t *bytes = to;
    mutex_lock(&random_mutex);
    for (size_t at = 0; at < size;) {
        uint8_t out[SHA256_SIZE], next[SHA256_SIZE];
        uint64_t time = rdtsc();
        dev_random.draws++;
        random_digest(out, 1, time);
        random_digest(next, 0, time);
        memcpy(dev_random.state, next, sizeof(next));
        size_t count = min(size - at, sizeof(out));
        memcpy(bytes + at, out, count);
        at += count;
    }
    mutex_unlock(&random_mutex);
    return (long)size;
}

// What is written is stirred in.
static long dev_write_random(const void *from, size_t size)
{
    struct sha256 hash;
    mutex_lock(&random_mutex);
    sha256_init(&hash);
    sha256_update(&hash, dev_random.state, sizeof(dev_random.state));
    sha256_update(&hash, from, size);
    sha256_final(&hash, dev_random.state);
    mutex_unlock(&random_mutex);
    return (long)size;
}

static long dev_read_console(void *to, size_t size)
{
    return tty_read(to, size, 0);
}

static long dev_write_console(const void *from, size_t size)
{
    tty_write(from, size);
    return (long)size;
}

static bool dev_has_com1(void)
{
    return uart_present(UART_COM1);
}

static bool dev_has_com2(void)
{
    return uart_present(UART_COM2);
}

static long dev_write_com1(const void *from, size_t size)
{
    int error = uart_write(UART_COM1, from, size);
    return error ? error : (long)size;
}

static long dev_write_com2(const void *from, size_t size)
{
    int error = uart_write(UART_COM2, from, size);
    return error ? error : (long)size;
}

// Lines for the log, each with its level before it, as in "<3>what went wrong"; a warning without.
static long dev_write_kmsg(const void *from, size_t size)
{
    const char *text = from;
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t length = newline ? (size_t)(newline - (text + at)) : size - at;
        bool levelled = length >= 3 && text[at] == '<' && text[at + 1] >= '0' &&
                        text[at + 1] <= '7' && text[at + 2] == '>';
        enum log_level level = levelled ? (enum log_level)(text[at + 1] - '0') : LOG_WARNING;
        size_t skip = levelled ? 3 : 0;
        printk(level, "%.*s", (int)min(length - skip, (size_t)4096), text + at + skip);
        at += length + (newline != NULL);
    }
    return (long)size;
}

static const struct dev_node dev_nodes[] = {
    {"console", 5, 1, dev_read_console, dev_write_console, NULL},
    {"full", 1, 7, dev_read_zero, dev_write_full, NULL},
    {"kmsg", 1, 11, dev_read_nothing, dev_write_kmsg, NULL},
    {"null", 1, 3, dev_read_nothing, dev_write_nothing, NULL},
    {"random", 1, 8, dev_read_random, dev_write_random, NULL},
    {"tty", 5, 0, dev_read_console, dev_write_console, NULL},
    {"ttyS0", 4, 64, dev_read_console, dev_write_com1, dev_has_com1},
    {"ttyS1", 4, 65, dev_read_nothing, dev_write_com2, dev_has_com2},
    {"urandom", 1, 9, dev_read_random, dev_write_random, NULL},
    {"zero", 1, 5, dev_read_zero, dev_write_nothing, NULL},
};

static bool dev_present(const struct dev_node *node)
{
    return !node->present || node->present();
}

static const struct dev_node *dev_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(dev_nodes); i++) {
        if (strcmp(dev_nodes[i].name, name) == 0 && dev_present(&dev_nodes[i])) {
            return &dev_nodes[i];
        }
    }
    return NULL;
}

// file->node: one of ours; file->state: what one opener of a disk has, with a reference of the
// disk.
static int dev_open_disk(struct file *file, const char *path)
{
    struct gendisk *disk = blk_find(path);
    if (!disk) {
        return file->flags & OPEN_CREATE ? -EPERM : -ENOENT;
    }
    if ((file->flags & OPEN_WRITE) && disk->read_only) {
        blk_put(disk);
        return -EROFS;
    }
    struct page_cache_file *open = kmalloc(sizeof(*open), GFP_KERNEL);
    int error = open ? blk_open(disk) : -ENOMEM;
    if (error != 0) {
        kfree(open);
        blk_put(disk);
        return error;
    }
    page_cache_open(open, disk);
    file->state = open;
    return 0;
}

static int dev_open(struct file *file, const char *path)
{
    if (*path == '\0') {
        return -EISDIR;
    }
    file->node = (void *)dev_find(path);
    if (!file->node) {
        return dev_open_disk(file, path);
    }
    return file->flags & OPEN_DIRECT ? -EINVAL : 0;
}

static void dev_close(struct file *file)
{
    struct page_cache_file *open = file->state;
    if (open) {
        blk_close(open->disk);
        blk_put(open->disk);
        kfree(open);
    }
}

// O_DIRECT is for whole blocks, as the disk has them.
static bool dev_is_aligned(const struct gendisk *disk, uint64_t offset, size_t size)
{
    uint32_t block = (disk->whole ? disk->whole : disk)->logical_block_size;
    return IS_ALIGNED(offset | size, (uint64_t)block);
}

static long dev_read_disk(struct file *file, void *to, size_t size)
{
    struct page_cache_file *open = file->state;
    if (!(file->flags & OPEN_DIRECT)) {
        return page_cache_read(open, file->position, to, size);
    }
    return dev_is_aligned(open->disk, file->position, size)
               ? blk_read_bytes(open->disk, file->position, to, size)
               : -EINVAL;
}

static long dev_write_disk(struct file *file, const void *from, size_t size)
{
    struct page_cache_file *open = file->state;
    long count = -EINVAL;
    if (!(file->flags & OPEN_DIRECT)) {
        count = page_cache_write(open, file->position, from, size);
    } else if (dev_is_aligned(open->disk, file->position, size)) {
        count = blk_write_bytes(open->disk, file->position, from, size);
    }
    if (count > 0 && (file->flags & OPEN_SYNC)) {
        int error = page_cache_fsync_range(open, file->position, (uint64_t)count);
        count = error ? error : count;
    }
    return count;
}

static long dev_read(struct file *file, void *to, size_t size)
{
    const struct dev_node *node = file->node;
    return node ? node->read(to, size) : dev_read_disk(file, to, size);
}

static long dev_write(struct file *file, const void *from, size_t size)
{
    const struct dev_node *node = file->node;
    return node ? node->write(from, size) : dev_write_disk(file, from, size);
}

// Up to the end of a disk, as in Linux; the others have none.
static int dev_seek(struct file *file, uint64_t position)
{
    const struct page_cache_file *open = file->state;
    return open && position > READ_ONCE(open->disk->capacity) * SECTOR_SIZE ? -EINVAL : 0;
}

static int dev_sync(struct file *file)
{
    return file->state ? page_cache_fsync(file->state) : 0;
}

static int dev_stat(struct super_block *sb, const char *path, struct file_info *info)
{
    (void)sb;
    if (*path == '\0') {
        info->type = FILE_DIRECTORY;
        return 0;
    }
    const struct dev_node *node = dev_find(path);
    if (node) {
        *info = (struct file_info){
            .type = FILE_CHAR, .writable = true, .major = node->major, .minor = node->minor};
        return 0;
    }
    struct gendisk *disk = blk_find(path);
    if (!disk) {
        return -ENOENT;
    }
    *info = (struct file_info){.type = FILE_BLOCK,
                               .size = disk->capacity * SECTOR_SIZE,
                               .writable = !disk->read_only,
                               .major = disk->major,
                               .minor = disk->minor};
    blk_put(disk);
    return 0;
}

static int dev_list(struct super_block *sb, const char *path, unsigned k, char *name, size_t size)
{
    if (*path != '\0') {
        int error = dev_stat(sb, path, &(struct file_info){0});
        return error ? error : -ENOTDIR;
    }
    for (size_t i = 0; i < ARRAY_SIZE(dev_nodes); i++) {
        if (dev_present(&dev_nodes[i]) && k-- == 0) {
            return strscpy(name, dev_nodes[i].name, size) < 0 ? -ENAMETOOLONG : 0;
        }
    }
    for (struct gendisk *disk = blk_next(NULL); disk; disk = blk_next(disk)) {
        if (k-- == 0) {
            int error = strscpy(name, disk->name, size) < 0 ? -ENAMETOOLONG : 0;
            blk_put(disk);
            return error;
        }
    }
    return -ENOENT;
}

FILESYSTEM(dev_filesystem)
= {
    .mount = "/dev",
    .name = "devtmpfs",
    .open = dev_open,
    .close = dev_close,
    .read = dev_read,
    .write = dev_write,
    .seek = dev_seek,
    .stat = dev_stat,
    .list = dev_list,
    .sync = dev_sync,
    .can_direct = true,
};
