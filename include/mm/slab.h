// Small objects: caches of equal objects carved from pages, with a per-CPU stack of free ones in
// front so that the common kmalloc takes no lock. Freed memory is filled with POISON_FREE and
// checked when it is handed out again: a write after free is reported with the object's cache and
// the address of the last free.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>
#include <mm/page.h>

#define POISON_FREE  0x6b
#define POISON_ALLOC 0x5a

struct kmem_cache;

// size 1 .. 4 MiB (above 8 KiB: whole pages). NULL when there is no memory. Context: GFP_ATOMIC
// any, else thread.
void *kmalloc(size_t size, enum gfp flags) __must_check;
void *kzalloc(size_t size, enum gfp flags) __must_check;
// NULL when count * size overflows. Context: GFP_ATOMIC any, else thread.
void *kcalloc(size_t count, size_t size, enum gfp flags) __must_check;
// NULL is fine; a double or foreign free is a BUG with a backtrace and a leak, no corruption.
void kfree(const void *pointer);
// Is this memory in the allocator's hands: freed, or never given out? For checkers. Context: any.
bool slab_is_freed(const void *pointer);
size_t ksize(const void *pointer);
// Told of each object before kfree takes it back, while it is not NULL: a check that has something
// to look for in memory that is given up (drivers/pci/pci_leak.c). Context: kfree's.
extern void (*slab_free_hook)(const void *object, size_t size);

// Large buffers that need not be physically contiguous (mapped in the vmap area). Context: thread.
void *vmalloc(size_t size) __must_check;
void vfree(void *pointer);

// align: power of two, 0 for the natural one. Context: thread.
struct kmem_cache *kmem_cache_create(const char *name, size_t size, size_t align);
// Objects still in use are reported, the cache then stays. Context: thread.
void kmem_cache_destroy(struct kmem_cache *cache);
// Context: GFP_ATOMIC any, else thread.
void *kmem_cache_alloc(struct kmem_cache *cache, enum gfp flags) __must_check;
// Context: any.
void kmem_cache_free(struct kmem_cache *cache, void *object);

void slab_init(void); // after page_init. Context: boot
unsigned slab_selfcheck(void);
uint64_t slab_bytes(void);
