// /tmp: files in memory, gone with the power. One directory, no tree: a place for a command's
// output, not a store. Bounded, so that `cat /dev/zero > /tmp/x` ends with "No space left on
// device" and not with a kernel out of memory.
//
//   tmp_file ── pages ──> [ page ][ page ][ NULL: a hole, reads as zeroes ][ page ]
//
// One mutex guards everything: a file's bytes move under it, so a reader sees a write whole or not
// at all.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/list.h>
#include <lib/string.h>
#include <contract/filesystem.h>
#include <mm/slab.h>
#include <sched/mutex.h>

enum {
    TMP_NAME = 64,
    TMP_MAX_FILES = 128,
    TMP_MAX_PAGES = 4096, // of all files together: 16 MiB
};

struct tmp_file {
    char name[TMP_NAME]; // I
    uint64_t size;       // L
    void **pages;        // L: page_slots of them, NULL where nothing was written
    size_t page_slots;   // L
    unsigned references; // L: opens, and one for the name
    struct list_head link;
};

static DEFINE_MUTEX(tmp_mutex);
static LIST_HEAD(tmp_files);     // L
static unsigned tmp_file_count;  // L
static unsigned tmp_pages_taken; // L

static struct tmp_file *tmp_find(const char *name)
{
    struct tmp_file *f;
    list_for_each_entry (f, &tmp_files, link) {
        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    return NULL;
}

static void tmp_free_pages(struct tmp_file *f, size_t first)
{
    for (size_t i = first; i < f->page_slots; i++) {
        if (f->pages[i]) {
            free_page(f->pages[i]);
            f->pages[i] = NULL;
            tmp_pages_taken--;
        }
    }
}

static void tmp_empty(struct tmp_file *f)
{
    tmp_free_pages(f, 0);
    kfree(f->pages);
    f->pages = NULL;
    f->page_slots = 0;
    f->size = 0;
}

static void tmp_put(struct tmp_file *f)
{
    if (--f->references == 0) {
        tmp_empty(f);
        kfree(f);
    }
}

static int tmp_create(const char *name, struct tmp_file **created)
{
    if (tmp_file_count == TMP_MAX_FILES) {
        return -ENOSPC;
    }
    struct tmp_file *f = kzalloc(sizeof(*f), GFP_KERNEL);
    if (!f) {
        return -ENOMEM;
    }
    if (strscpy(f->name, name, sizeof(f->name)) < 0) {
        kfree(f);
        return -ENAMETOOLONG;
    }
    f->references = 1;
    list_add_tail(&f->link, &tmp_files);
    tmp_file_count++;
    *created = f;
    return 0;
}

static int tmp_open_locked(struct file *file, const char *path)
{
    struct tmp_file *f = tmp_find(path);
    if (!f) {
        int error = file->flags & OPEN_CREATE ? tmp_create(path, &f) : -ENOENT;
        if (error != 0) {
            return error;
        }
    }
    if (file->flags & OPEN_TRUNCATE) {
        tmp_empty(f);
    }
    f->references++;
    file->node = f;
    return 0;
}

static int tmp_open(struct file *file, const char *path)
{
    if (*path == '\0') {
        return -EISDIR;
    }
    if (strchr(path, '/')) {
        return -ENOENT; // there are no directories
    }
    mutex_lock(&tmp_mutex);
    int error = tmp_open_locked(file, path);
    mutex_unlock(&tmp_mutex);
    return error;
}

static void tmp_close(struct file *file)
{
    mutex_lock(&tmp_mutex);
    tmp_put(file->node);
    mutex_unlock(&tmp_mutex);
}

static long tmp_read(struct file *file, void *to, size_t size)
{
    struct tmp_file *f = file->node;
    mutex_lock(&tmp_mutex);
    uint64_t at = min(file->position, f->size);
    size = min(size, f->size - at);
    for (size_t done = 0; done < size;) {
        size_t slot = (at + done) / PAGE_SIZE, offset = (at + done) % PAGE_SIZE;
        size_t count = min(size - done, PAGE_SIZE - offset);
        const char *page = slot < f->page_slots ? f->pages[slot] : NULL;
        if (page) {
            memcpy((char *)to + done, page + offset, count);
        } else {
            memset((char *)to + done, 0, count);
        }
        done += count;
    }
    mutex_unlock(&tmp_mutex);
    return (long)size;
}

// Makes room for `slots` pointers to pages.
static int tmp_grow(struct tmp_file *f, size_t slots)
{
    if (slots <= f->page_slots) {
        return 0;
    }
    size_t wanted = max(slots, f->page_slots * 2);
    void **pages = kcalloc(wanted, sizeof(*pages), GFP_KERNEL);
    if (!pages) {
        return -ENOSPC;
    }
    if (f->pages) {
        memcpy(pages, f->pages, f->page_slots * sizeof(*pages));
        kfree(f->pages);
    }
    f->pages = pages;
    f->page_slots = wanted;
    return 0;
}

static char *tmp_page(struct tmp_file *f, size_t slot)
{
    if (slot >= TMP_MAX_PAGES || tmp_grow(f, slot + 1) != 0) {
        return NULL;
    }
    if (!f->pages[slot] && tmp_pages_taken < TMP_MAX_PAGES) {
        f->pages[slot] = alloc_page(GFP_KERNEL | GFP_ZERO);
        tmp_pages_taken += f->pages[slot] != NULL;
    }
    return f->pages[slot];
}

// Writes what there is room for; nothing at all is -ENOSPC.
static long tmp_write(struct file *file, const void *from, size_t size)
{
    struct tmp_file *f = file->node;
    size_t done = 0;
    mutex_lock(&tmp_mutex);
    if (file->flags & OPEN_APPEND) {
        file->position = f->size;
    }
    while (done < size) {
        uint64_t at = file->position + done;
        char *page = tmp_page(f, at / PAGE_SIZE);
        if (!page) {
            break;
        }
        size_t count = min(size - done, (size_t)(PAGE_SIZE - at % PAGE_SIZE));
        memcpy(page + at % PAGE_SIZE, (const char *)from + done, count);
        done += count;
        f->size = max(f->size, at + count);
    }
    mutex_unlock(&tmp_mutex);
    return done == 0 && size != 0 ? -ENOSPC : (long)done;
}

// What lies behind the end is zeroes, should the file grow again.
static int tmp_truncate(struct file *file, uint64_t size)
{
    struct tmp_file *f = file->node;
    size_t whole = (size_t)(size / PAGE_SIZE), part = (size_t)(size % PAGE_SIZE);
    if (size > (uint64_t)TMP_MAX_PAGES * PAGE_SIZE) {
        return -EFBIG;
    }
    mutex_lock(&tmp_mutex);
    tmp_free_pages(f, whole + (part != 0));
    if (part != 0 && whole < f->page_slots && f->pages[whole]) {
        memset((char *)f->pages[whole] + part, 0, PAGE_SIZE - part);
    }
    f->size = size;
    mutex_unlock(&tmp_mutex);
    return 0;
}

static int tmp_stat(struct super_block *sb, const char *path, struct file_info *info)
{
    (void)sb;
    if (*path == '\0') {
        *info = (struct file_info){.type = FILE_DIRECTORY, .writable = true};
        return 0;
    }
    mutex_lock(&tmp_mutex);
    const struct tmp_file *f = tmp_find(path);
    if (f) {
        *info = (struct file_info){.type = FILE_REGULAR, .size = f->size, .writable = true};
    }
    mutex_unlock(&tmp_mutex);
    return f ? 0 : -ENOENT;
}

static int tmp_list(struct super_block *sb, const char *path, unsigned k, char *name, size_t size)
{
    (void)sb;
    int result = -ENOENT;
    mutex_lock(&tmp_mutex);
    struct tmp_file *f;
    if (*path != '\0') {
        result = tmp_find(path) ? -ENOTDIR : -ENOENT;
    } else {
        list_for_each_entry (f, &tmp_files, link) {
            if (k-- == 0) {
                result = strscpy(name, f->name, size) < 0 ? -ENAMETOOLONG : 0;
                break;
            }
        }
    }
    mutex_unlock(&tmp_mutex);
    return result;
}

static int tmp_unlink(struct super_block *sb, const char *path)
{
    (void)sb;
    mutex_lock(&tmp_mutex);
    struct tmp_file *f = tmp_find(path);
    if (f) {
        list_del(&f->link);
        tmp_file_count--;
        tmp_put(f); // whoever has it open still does
    }
    mutex_unlock(&tmp_mutex);
    return f ? 0 : -ENOENT;
}

FILESYSTEM(tmp_filesystem)
= {
    .mount = "/tmp",
    .name = "tmpfs",
    .open = tmp_open,
    .close = tmp_close,
    .read = tmp_read,
    .write = tmp_write,
    .stat = tmp_stat,
    .list = tmp_list,
    .unlink = tmp_unlink,
    .truncate = tmp_truncate,
};
