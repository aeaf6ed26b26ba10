// Mistakes with memory, for `break`: what is freed is used, or freed again; a stack is too small.
//
// Context: thread.
#include <lib/errno.h>
#include <contract/break.h>
#include <core/cpu.h>
#include <mm/slab.h>

// The poison is looked at when the object is handed out again: to us, as the cache is ours alone
// and the CPU hands out first what it got last.
static int break_use_after_free(const char *argument __unused)
{
    struct kmem_cache *cache = kmem_cache_create("break", 64, 0);
    uint64_t *object = cache != NULL ? kmem_cache_alloc(cache, GFP_KERNEL) : NULL;

    if (object == NULL) {
        return -ENOMEM;
    }
    preempt_disable();
    kmem_cache_free(cache, object);
    __asm__ volatile("" : "+r"(object)); // the compiler need not know better
    object[2] = 0xbad;
    object = kmem_cache_alloc(cache, GFP_ATOMIC);
    preempt_enable();
    if (object != NULL) {
        kmem_cache_free(cache, object);
    }
    kmem_cache_destroy(cache);
    return 0;
}

static int break_double_free(const char *argument __unused)
{
    void *object = kmalloc(64, GFP_KERNEL);

    if (object == NULL) {
        return -ENOMEM;
    }
    kfree(object);
    __asm__ volatile("" : "+r"(object));
    kfree(object);
    return 0;
}

static __noinline unsigned break_recurse(unsigned depth)
{
    volatile char room[512];

    room[0] = (char)depth;
    return depth == 0 ? 0 : break_recurse(depth - 1) + (unsigned)room[0];
}

static int break_stack_overflow(const char *argument __unused)
{
    return (int)(break_recurse(1000) & 0);
}

BREAK("use-after-free", NULL, "freed memory is written to", "was written to after it was freed",
      true, break_use_after_free);
BREAK("double-free", NULL, "memory is freed twice", "is free already", true, break_double_free);
BREAK("stack-overflow", NULL, "a thread's stack is too small for what it does", "panic:", false,
      break_stack_overflow);
