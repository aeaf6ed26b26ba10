// /proc/page_cache and /proc/sys/vm: the cache in numbers, and its settings by Linux's names
// (Documentation/admin-guide/sysctl/vm.rst).
//
// /proc/page_cache has a line for each disk; sizes in KiB, pages of 4 KiB as numbers. Writing
// "sda read_ahead_kb 1024" to it sets how far is read ahead, as Linux's
// /sys/block/sda/queue/read_ahead_kb does; 0 turns it off.
//
// Context: thread. Previous: page_cache_lru.c.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/proc_file.h>
#include <mm/page.h>

#include "page_cache_internal.h"

enum { RA_MAX_KB = 4096 };

static void page_cache_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, "disk       cached dirty writeback read_ahead     hits   misses    ahead     used"
                 "   filled  written  evicted lost throttled   bytes_to_readers "
                 "bytes_from_writers\n");
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        const struct page_cache *cache = disk->cache;
        if (cache == NULL) { // a partition, or a disk that has none
            continue;
        }
        const struct page_cache_stats *s = &cache->stats;
        const unsigned kib = PAGE_SIZE / 1024;
        text_printf(t, "%-8s %8u %5u %9u %10u", disk->name, READ_ONCE(cache->pages) * kib,
                    READ_ONCE(cache->dirty_pages) * kib, READ_ONCE(cache->writeback_pages) * kib,
                    READ_ONCE(cache->read_ahead) * kib);
        const uint64_t numbers[] = {s->hits,   s->misses,  s->ahead,  s->ahead_used,
                                    s->filled, s->written, s->evicted};
        for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
            text_printf(t, " %8llu", (unsigned long long)numbers[i]);
        }
        text_printf(t, " %4llu %9llu %18llu %18llu\n", (unsigned long long)s->lost,
                    (unsigned long long)s->throttled, (unsigned long long)s->copied_to,
                    (unsigned long long)s->copied_from);
    }
}

static int page_cache_set(const char *line, unsigned long index)
{
    char name[sizeof(((struct gendisk *)0)->name)];
    static const char word[] = " read_ahead_kb ";
    const char *number = strchr(line, ' ');
    size_t length = number != NULL ? (size_t)(number - line) : 0;
    uint32_t kb;
    (void)index;
    if (length == 0 || length >= sizeof(name) || !str_starts(number, word) ||
        kstrtou32(number + sizeof(word) - 1, 10, &kb) != 0 || kb > RA_MAX_KB) {
        return -EINVAL;
    }
    memcpy(name, line, length);
    name[length] = '\0';
    struct gendisk *disk = blk_find(name);
    if (disk == NULL) {
        return -ENOENT;
    }
    struct page_cache *cache = cache_of(disk);
    if (cache != NULL) {
        WRITE_ONCE(cache->read_ahead, kb / (uint32_t)(PAGE_SIZE / 1024));
    }
    blk_put(disk);
    return cache != NULL ? 0 : -EOPNOTSUPP;
}

// ---- /proc/sys/vm -------------------------------------------------------------------------------

// 1, 2 or 3 as in Linux: pages, what can be given back of small objects, both. Objects give back
// what they can by themselves, so 2 has nothing to do. What is dirty stays.
static int drop_caches_write(const char *line, unsigned long index)
{
    uint32_t what;
    (void)index;
    if (kstrtou32(line, 10, &what) != 0 || what < 1 || what > 3) {
        return -EINVAL;
    }
    if (what & 1) {
        page_cache_shrink(~0ul);
    }
    return 0;
}

static void drop_caches_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, "0\n");
}

static int percent_write(uint32_t *setting, const char *line)
{
    uint32_t percent;
    if (kstrtou32(line, 10, &percent) != 0 || percent > 100) {
        return -EINVAL;
    }
    WRITE_ONCE(*setting, percent);
    return 0;
}

static int centisecs_write(uint32_t *setting, const char *line)
{
    uint32_t centisecs;
    if (kstrtou32(line, 10, &centisecs) != 0 || centisecs == 0 || centisecs > WB_MAX_CENTISECS) {
        return -EINVAL;
    }
    WRITE_ONCE(*setting, centisecs);
    return 0;
}

#define VM_SETTING(setting, write_setting)                            \
    static void setting##_show(struct text *t, unsigned long index)   \
    {                                                                 \
        (void)index;                                                  \
        text_printf(t, "%u\n", READ_ONCE(wb_setting.setting));        \
    }                                                                 \
    static int setting##_write(const char *line, unsigned long index) \
    {                                                                 \
        (void)index;                                                  \
        return write_setting(&wb_setting.setting, line);              \
    }                                                                 \
    PROC_FILE_RW("sys/vm/" #setting, setting##_show, setting##_write)

VM_SETTING(dirty_background_ratio, percent_write);
VM_SETTING(dirty_ratio, percent_write);
VM_SETTING(dirty_expire_centisecs, centisecs_write);
VM_SETTING(dirty_writeback_centisecs, centisecs_write);
PROC_FILE_RW("sys/vm/drop_caches", drop_caches_show, drop_caches_write);
PROC_FILE_RW("page_cache", page_cache_show, page_cache_set);
