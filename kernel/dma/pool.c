// Small coherent blocks: descriptors and lists that a driver needs by the dozen, cut from pages
// that the device may touch as long as the pool lives.
//
//   page  [ block | block | block | ... ]      the device's to read and write, all of it, always
//   taken   1       0       1                  ours, in other memory
//
// Which blocks are free is therefore not written into them, as an allocator of our own memory would
// (kernel/mm/slab.c): a device that writes where it should not, out of error or of malice, must not
// be able to choose what the next caller gets. That also tells a block that is given back twice.
//
//   pages   [ with room ] -> [ with room ] -> [ full ] -> [ full ]
//
// Context: create, destroy, alloc: thread; free: any. Previous: kernel/dma/dma.c.
#include <lib/list.h>
#include <lib/string.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>

enum {
    POOL_MIN_STRIDE = 8,
    POOL_MAX_BLOCKS = PAGE_SIZE / POOL_MIN_STRIDE, // of a page
    POOL_WORDS = POOL_MAX_BLOCKS / 64,
};

struct dma_pool_page {
    struct list_head link;      // L
    char *cpu;                  // I
    dma_addr_t handle;          // I
    unsigned taken_count;       // L
    uint64_t taken[POOL_WORDS]; // L: a bit a block
};

struct dma_pool {
    const char *name;   // I
    struct device *dev; // I
    size_t stride;      // I: bytes from block to block
    unsigned blocks;    // I: of a page
    struct spinlock lock;
    struct list_head pages; // L: those with room first
    unsigned out;           // L: blocks that are in use
};

struct dma_pool *dma_pool_create(const char *name, struct device *dev, size_t size, size_t align)
{
    might_sleep();
    align = max(align, (size_t)POOL_MIN_STRIDE);
    if (size == 0 || size > PAGE_SIZE || align > PAGE_SIZE || (align & (align - 1)) != 0) {
        return NULL;
    }
    struct dma_pool *pool = kzalloc(sizeof(*pool), GFP_KERNEL);
    if (pool != NULL) {
        pool->name = name;
        pool->dev = dev;
        pool->stride = ALIGN_UP(size, align);
        pool->blocks = (unsigned)(PAGE_SIZE / pool->stride);
        spin_lock_init(&pool->lock, "dma pool");
        INIT_LIST_HEAD(&pool->pages);
    }
    return pool;
}

static bool dma_pool_grow(struct dma_pool *pool)
{
    struct dma_pool_page *page = kzalloc(sizeof(*page), GFP_KERNEL);
    unsigned long flags;

    if (page == NULL) {
        return false;
    }
    page->cpu = dma_alloc_coherent(pool->dev, PAGE_SIZE, &page->handle);
    if (page->cpu == NULL) {
        kfree(page);
        return false;
    }
    spin_lock_irqsave(&pool->lock, flags);
    list_add(&page->link, &pool->pages);
    spin_unlock_irqrestore(&pool->lock, flags);
    return true;
}

// The page that a block lies in; NULL: none of this pool's.
static struct dma_pool_page *dma_pool_page_locked(struct dma_pool *pool, const char *cpu)
{
    struct dma_pool_page *page;

    list_for_each_entry (page, &pool->pages, link) {
        if (cpu >= page->cpu && cpu < page->cpu + PAGE_SIZE) {
            return page;
        }
    }
    return NULL;
}

// A free block of a page that has one.
static unsigned dma_pool_take_locked(struct dma_pool *pool, struct dma_pool_page *page)
{
    unsigned word = 0;

    while (page->taken[word] == UINT64_MAX) {
        word++;
    }
    unsigned bit = (unsigned)__builtin_ctzll(~page->taken[word]);
    page->taken[word] |= BIT64(bit);
    pool->out++;
    if (++page->taken_count == pool->blocks) {
        list_del(&page->link);
        list_add_tail(&page->link, &pool->pages);
    }
    return word * 64 + bit;
}

void *dma_pool_alloc(struct dma_pool *pool, dma_addr_t *handle)
{
    unsigned long flags;
    char *block = NULL;

    might_sleep();
    do {
        spin_lock_irqsave(&pool->lock, flags);
        struct dma_pool_page *page =
            list_empty(&pool->pages) ? NULL
                                     : list_first_entry(&pool->pages, struct dma_pool_page, link);
        if (page != NULL && page->taken_count < pool->blocks) {
            size_t offset = dma_pool_take_locked(pool, page) * pool->stride;
            block = page->cpu + offset;
            handle->value = page->handle.value + offset;
        }
        spin_unlock_irqrestore(&pool->lock, flags);
    } while (block == NULL && dma_pool_grow(pool));
    if (block != NULL) {
        memset(block, 0, pool->stride);
    }
    return block;
}

// Takes a block back. False: it is none, or is not out.
static bool dma_pool_give_locked(struct dma_pool *pool, const char *cpu, dma_addr_t handle)
{
    struct dma_pool_page *page = dma_pool_page_locked(pool, cpu);

    if (page == NULL) {
        return false;
    }
    size_t offset = (size_t)(cpu - page->cpu), index = offset / pool->stride;
    uint64_t bit = BIT64(index % 64);
    if (offset % pool->stride != 0 || handle.value != page->handle.value + offset ||
        (page->taken[index / 64] & bit) == 0) {
        return false;
    }
    page->taken[index / 64] &= ~bit;
    page->taken_count--;
    pool->out--;
    list_del(&page->link);
    list_add(&page->link, &pool->pages);
    return true;
}

void dma_pool_free(struct dma_pool *pool, void *cpu, dma_addr_t handle)
{
    unsigned long flags;

    spin_lock_irqsave(&pool->lock, flags);
    bool ours = dma_pool_give_locked(pool, cpu, handle);
    spin_unlock_irqrestore(&pool->lock, flags);
    if (!ours) {
        dev_err(pool->dev, "pool %s: %p is none of its blocks, or was freed before: not freed",
                pool->name, cpu);
    }
}

void dma_pool_destroy(struct dma_pool *pool)
{
    struct dma_pool_page *page, *next;

    might_sleep();
    if (pool == NULL) {
        return;
    }
    if (pool->out != 0) {
        dev_err(pool->dev, "pool %s is destroyed with %u blocks in use: its memory is kept",
                pool->name, pool->out);
        return;
    }
    list_for_each_entry_safe (page, next, &pool->pages, link) {
        dma_free_coherent(pool->dev, PAGE_SIZE, page->cpu, page->handle);
        kfree(page);
    }
    kfree(pool);
}
