// Small coherent blocks: descriptors and lists that a driver needs by the dozen, cut from pages
// that the device may touch as long as the pool lives.
//
//   page  [ block | block | block | ... ]      free ones are linked through their first word: the
//             |               ^                device does not own a free block, so it may hold
//             +---------------+                our link
//
// Context: create, destroy, alloc: thread; free: any. Previous: kernel/dma/dma.c.
#include <lib/list.h>
#include <lib/string.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>

struct dma_pool_page {
    struct list_head link; // L
    char *cpu;             // I
    dma_addr_t handle;     // I
};

struct dma_pool {
    const char *name;   // I
    struct device *dev; // I
    size_t stride;      // I: bytes from block to block
    struct spinlock lock;
    struct list_head pages; // L
    void *free;             // L: first free block
    unsigned out;           // L: blocks that are in use
};

struct dma_pool *dma_pool_create(const char *name, struct device *dev, size_t size, size_t align)
{
    might_sleep();
    align = max(align, sizeof(void *));
    if (size == 0 || size > PAGE_SIZE || align > PAGE_SIZE || (align & (align - 1)) != 0) {
        return NULL;
    }
    struct dma_pool *pool = kzalloc(sizeof(*pool), GFP_KERNEL);
    if (pool != NULL) {
        pool->name = name;
        pool->dev = dev;
        pool->stride = ALIGN_UP(size, align);
        spin_lock_init(&pool->lock, "dma pool");
        INIT_LIST_HEAD(&pool->pages);
    }
    return pool;
}

static bool dma_pool_grow(struct dma_pool *pool)
{
    struct dma_pool_page *page = kmalloc(sizeof(*page), GFP_KERNEL);
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
    for (size_t at = 0; at + pool->stride <= PAGE_SIZE; at += pool->stride) {
        *(void **)(page->cpu + at) = pool->free;
        pool->free = page->cpu + at;
    }
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

void *dma_pool_alloc(struct dma_pool *pool, dma_addr_t *handle)
{
    unsigned long flags;
    char *block;

    might_sleep();
    do {
        spin_lock_irqsave(&pool->lock, flags);
        block = pool->free;
        if (block != NULL) {
            const struct dma_pool_page *page = dma_pool_page_locked(pool, block);

            pool->free = *(void **)block;
            pool->out++;
            handle->value = page->handle.value + (uint64_t)(block - page->cpu);
        }
        spin_unlock_irqrestore(&pool->lock, flags);
    } while (block == NULL && dma_pool_grow(pool));
    if (block != NULL) {
        memset(block, 0, pool->stride);
    }
    return block;
}

void dma_pool_free(struct dma_pool *pool, void *cpu, dma_addr_t handle)
{
    unsigned long flags;

    spin_lock_irqsave(&pool->lock, flags);
    const struct dma_pool_page *page = dma_pool_page_locked(pool, cpu);
    bool ours = page != NULL &&
                handle.value == page->handle.value + (uint64_t)((char *)cpu - page->cpu) &&
                (size_t)((char *)cpu - page->cpu) % pool->stride == 0;
    if (ours) {
        *(void **)cpu = pool->free;
        pool->free = cpu;
        pool->out--;
    }
    spin_unlock_irqrestore(&pool->lock, flags);
    if (!ours) {
        dev_err(pool->dev, "pool %s: %p is none of its blocks, not freed", pool->name, cpu);
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
