// Small objects under all CPUs at once, passed from one to another; misuse is reported and the
// kernel goes on. The rest: tests/host/test_slab.c.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <irq/ipi.h>

#include "every_cpu.h"

enum { SLAB_SLOTS = 256, SLAB_ROUNDS = 20000 };

// Objects that any CPU may take: the first word is the object's size, the last its complement.
static uint64_t *slab_shared[SLAB_SLOTS]; // A: exchanged

static void slab_mark(uint64_t *object, size_t size)
{
    object[0] = size;
    object[size / 8 - 1] = ~(uint64_t)size;
}

static bool slab_is_whole(const uint64_t *object)
{
    uint64_t size = object[0];

    return size >= 16 && size <= 4096 && object[size / 8 - 1] == ~size;
}

// Puts a new object into a slot, and frees what stood there: mostly another CPU's.
static void slab_stress(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    unsigned broken = 0, failed = 0;

    for (unsigned round = 0; round < SLAB_ROUNDS; round++) {
        size_t size = 16 + every_cpu_random(self) % (round % 16 == 0 ? 4000 : 300) / 8 * 8;
        uint64_t *object = kmalloc(size, GFP_KERNEL);

        failed += object == NULL;
        if (object != NULL) {
            slab_mark(object, size);
        }
        object = __atomic_exchange_n(&slab_shared[every_cpu_random(self) % SLAB_SLOTS], object,
                                     __ATOMIC_ACQ_REL);
        if (object != NULL) {
            broken += !slab_is_whole(object);
            kfree(object);
        }
    }
    EXPECT_EQ(broken, 0);
    EXPECT_EQ(failed, 0);
}

static void slab_empty_slots(void)
{
    for (unsigned i = 0; i < SLAB_SLOTS; i++) {
        kfree(__atomic_exchange_n(&slab_shared[i], NULL, __ATOMIC_ACQ_REL));
    }
}

KTEST(slab, every_cpu_at_once)
{
    REQUIRE(every_cpu_run(ktest, slab_stress, NULL));
    slab_empty_slots();
    EXPECT_EQ(slab_selfcheck(), 0);
    EXPECT_EQ(page_selfcheck(), 0);
}

// ---- interrupts: handlers allocate in the midst of threads that do ------------------------------

static unsigned slab_irq_broken; // A

// Hard interrupt: a few objects in, a few out.
static void slab_in_interrupt(void *arg)
{
    unsigned *turn = arg;

    for (unsigned i = 0; i < 4; i++) {
        unsigned at = __atomic_fetch_add(turn, 7, __ATOMIC_RELAXED) % SLAB_SLOTS;
        uint64_t *object = kmalloc(64, GFP_ATOMIC);

        if (object != NULL) {
            slab_mark(object, 64);
        }
        object = __atomic_exchange_n(&slab_shared[at], object, __ATOMIC_ACQ_REL);
        if (object != NULL) {
            __atomic_fetch_add(&slab_irq_broken, !slab_is_whole(object), __ATOMIC_RELAXED);
            kfree(object);
        }
    }
}

// Allocates as fast as it can, and now and then interrupts all the others, which do the same.
static void slab_under_interrupts(struct every_cpu *self)
{
    for (unsigned round = 0; round < 800; round++) {
        for (unsigned i = 0; i < 10; i++) {
            uint64_t *object = kmalloc(64, GFP_KERNEL);

            if (object != NULL) {
                slab_mark(object, 64);
                __atomic_fetch_add(&slab_irq_broken, !slab_is_whole(object), __ATOMIC_RELAXED);
                kfree(object);
            }
        }
        if (round % 4 == 0) {
            struct cpumask others = cpu_online_mask;

            smp_call_function_many(&others, slab_in_interrupt, self->arg, true);
        }
    }
}

KTEST(slab, interrupts_allocate_too)
{
    unsigned turn = 0;

    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: nobody to interrupt it");
    }
    slab_irq_broken = 0;
    REQUIRE(every_cpu_run(ktest, slab_under_interrupts, &turn));
    slab_empty_slots();
    EXPECT_EQ(slab_irq_broken, 0);
    EXPECT(turn >= 7 * 4 * 200); // the two hundred calls of one CPU at the least
    EXPECT_EQ(slab_selfcheck(), 0);
}

KTEST(slab, sizes_and_zeroes)
{
    for (size_t size = 1; size <= 40000; size = size * 2 + 1) {
        char *object = kzalloc(size, GFP_KERNEL);

        REQUIRE(object != NULL);
        EXPECT(ksize(object) >= size);
        EXPECT(object[0] == 0 && object[size - 1] == 0);
        memset(object, 0xff, size);
        kfree(object);
    }
    EXPECT(kmalloc(0, GFP_KERNEL) == NULL);
    EXPECT(kcalloc(SIZE_MAX / 8, 16, GFP_KERNEL) == NULL);
    kfree(NULL);
}

// A report each, and the allocator is sound afterwards.
KTEST(slab, double_free_is_reported)
{
    void *object = kmalloc(100, GFP_KERNEL);

    REQUIRE(object != NULL);
    unsigned long flags = local_irq_save(); // nobody is handed the object in between
    kfree(object);
    ktest->warnings_expected = 1;
    kfree(object);
    local_irq_restore(flags);
    EXPECT_EQ(slab_selfcheck(), 0);
}

KTEST(slab, foreign_free_is_reported)
{
    char on_the_stack[32];
    char *object = kmalloc(100, GFP_KERNEL);

    REQUIRE(object != NULL);
    ktest->warnings_expected = 3;
    kfree(on_the_stack);
    kfree(object + 8);
    kfree((const void *)&slab_stress);
    kfree(object);
    EXPECT_EQ(slab_selfcheck(), 0);
}

KTEST(slab, write_after_free_is_reported)
{
    preempt_disable(); // this CPU's magazine hands the same object out next
    unsigned long flags = local_irq_save();
    char *object = kmalloc(2048, GFP_ATOMIC), *again;
    if (object != NULL) {
        kfree(object);
        ((volatile char *)object)[24] = 1;
    }
    again = kmalloc(2048, GFP_ATOMIC);
    local_irq_restore(flags);
    preempt_enable();
    ktest->warnings_expected = 1;
    EXPECT(again == object);
    kfree(again);
    EXPECT_EQ(slab_selfcheck(), 0);
}

static void slab_fill_and_empty(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    struct kmem_cache *cache = self->arg;
    void *objects[100];

    for (unsigned round = 0; round < 100; round++) {
        unsigned missing = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
            objects[i] = kmem_cache_alloc(cache, GFP_KERNEL);
            missing += objects[i] == NULL;
        }
        for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
            kmem_cache_free(cache, objects[i]);
        }
        EXPECT_EQ(missing, 0);
    }
}

// All CPUs hold objects of a cache in their magazines; when it is destroyed, its memory comes back.
KTEST(slab, a_cache_comes_and_goes)
{
    struct kmem_cache *cache = kmem_cache_create("ktest", 200, 64);

    REQUIRE(cache != NULL);
    uint64_t before = slab_bytes();
    REQUIRE(every_cpu_run(ktest, slab_fill_and_empty, cache));
    void *last = kmem_cache_alloc(cache, GFP_KERNEL);
    EXPECT(slab_bytes() > before);
    ktest->warnings_expected = 1;
    kmem_cache_destroy(cache); // refused: one is still in use
    kmem_cache_free(cache, last);
    kmem_cache_destroy(cache);
    EXPECT_EQ(slab_selfcheck(), 0);
}

KTEST(slab, gfp_kernel_under_a_lock_is_reported)
{
    DEFINE_SPINLOCK(lock);

    ktest->warnings_expected = 2;
    spin_lock(&lock);
    kfree(kmalloc(100, GFP_KERNEL));
    free_page(alloc_page(GFP_KERNEL));
    kfree(kmalloc(100, GFP_ATOMIC)); // this one may
    spin_unlock(&lock);
}
