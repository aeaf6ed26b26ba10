// The slab caches misused: what is written after it was freed, freed twice, not theirs, or lent to
// a device, is reported once and harms nobody.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c kernel/lib/cpumask.c kernel/lib/string.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/resource.c
// links: tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include "slab_case.h"

// ---- written to after it was freed --------------------------------------------------------------

static void written_after_free(void **state)
{
    (void)state;
    static const size_t places[][2] = {{16, 0}, {64, 32}, {2048, 0}, {2048, 56}}; // size, offset

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        char *object = kmalloc(places[i][0], GFP_ATOMIC);
        kfree(object);
        object[places[i][1]] = 1;
        assert_ptr_equal(kmalloc(places[i][0], GFP_ATOMIC), object);
        reported("was written to after it was freed by 0x");
        kfree(object);
    }
}

static void beyond_the_poison(void **state)
{
    (void)state;
    char *object = kmalloc(2048, GFP_ATOMIC);
    kfree(object);
    object[64] = 1; // not watched, by default
    kfree(kmalloc(2048, GFP_ATOMIC));
    assert_int_equal(warn_count, 0);

    slab_debug = SLAB_DEBUG_ON;
    start(64 * MIB);
    object = kmalloc(2048, GFP_ATOMIC);
    kfree(object);
    object[2039] = 1; // the last byte before the mark
    assert_ptr_equal(kmalloc(2048, GFP_ATOMIC), object);
    reported("offset 2032");

    slab_debug = SLAB_DEBUG_OFF;
    start(64 * MIB);
    object = kmalloc(2048, GFP_ATOMIC);
    kfree(object);
    object[0] = 1;
    assert_ptr_equal(kmalloc(2048, GFP_ATOMIC), object);
    assert_int_equal(warn_count, 0);
    slab_debug = SLAB_DEBUG_QUICK;
}

// ---- freed twice --------------------------------------------------------------------------------

static void freed_twice(void **state)
{
    (void)state;
    for (size_t size = 8; size <= 8192; size *= 2) {
        void *object = kmalloc(size, GFP_ATOMIC);

        kfree(object);
        kfree(object);
        reported("is free already");
        on_cpu(1); // in another CPU's magazine
        kfree(object);
        reported("is free already");
        on_cpu(0);
        drain_all(); // in its slab, or the slab is gone
        kfree(object);
        reported(page_of(object)->kind == PAGE_SLAB ? "is free already" : "was not allocated");
        void *one = kmalloc(size, GFP_ATOMIC), *two = kmalloc(size, GFP_ATOMIC);
        assert_ptr_not_equal(one, two);
        kfree(one);
        kfree(two);
        assert_int_equal(warn_count, 0);
    }
}

// A stale owner wrote over the marks and frees again: found at the latest when the object reaches
// its slab twice.
static void freed_twice_without_marks(void **state)
{
    (void)state;
    char *object = kmalloc(128, GFP_ATOMIC);
    kfree(object);
    memset(object, 0, 128);
    kfree(object);
    drain_all();
    reported("was freed twice");
    // Once it is handed out, not twice.
    void *one = kmalloc(128, GFP_ATOMIC), *two = kmalloc(128, GFP_ATOMIC);
    assert_ptr_not_equal(one, two);
}

// An object whose owner left there by chance what looks like a mark is no double free.
static void marks_by_chance(void **state)
{
    (void)state;
    uint64_t *object = kmalloc(64, GFP_ATOMIC);
    object[0] = POISON_FREE_WORD;
    object[7] = (uintptr_t)&marks_by_chance;
    kfree(object);
    assert_int_equal(warn_count, 0);
}

// ---- what is not to be freed --------------------------------------------------------------------

static void foreign_pointers(void **state)
{
    (void)state;
    char on_the_stack[64];
    char *object = kmalloc(64, GFP_ATOMIC);

    kfree(on_the_stack);
    reported("was not allocated");
    kfree(object + 8);
    reported("is not the start of an object");
    kfree((void *)16);
    reported("was not allocated");
    kfree((void *)UINTPTR_MAX);
    reported("was not allocated");
    kfree(phys_to_virt(MIB)); // the image
    reported("was not allocated");
    char *pages16k = kmalloc(16384, GFP_ATOMIC);
    kfree(pages16k + 64);
    reported("was not allocated");
    kfree(pages16k + PAGE_SIZE);
    reported("was not allocated");
    kfree(pages16k);
    kfree(pages16k);
    reported("was not allocated");
    kfree(object);
    assert_int_equal(warn_count, 0);
}

static const void *asked; // of the hook below, last
static size_t asked_size;
static bool is_lent; // its answer

static bool lent_hook(const void *start, size_t size, const void *caller)
{
    assert_non_null(caller);
    asked = start;
    asked_size = size;
    return is_lent;
}

// Frees: what the hook is asked about, and whether the memory is kept then.
static void free_of_lent(void *object, size_t size, void (*give)(void *object))
{
    phys_t start = virt_to_phys(object);
    uint64_t before = page_free_count();

    asked = NULL;
    page_lend(start + size - 64, 64, 1); // the device has its end
    is_lent = true;
    give(object);
    assert_ptr_equal(asked, object);
    assert_int_equal(asked_size, size);
    assert_int_equal(page_free_count(), before);
    is_lent = false; // it was another's part of the page
    give(object);
    page_lend(start + size - 64, 64, -1);
}

static void give_pages(void *object)
{
    free_pages(object, 3);
}

static void give_object(void *object)
{
    kfree(object);
}

static void what_is_lent_is_not_freed(void **state)
{
    (void)state;
    page_lent_hook = lent_hook;
    for (size_t size = 64; size <= 64 * 1024; size *= 2) {
        void *object = kmalloc(size, GFP_ATOMIC);
        assert_non_null(object);
        free_of_lent(object, size, give_object);
    }
    free_of_lent(alloc_pages(GFP_ATOMIC, 3), 8 * PAGE_SIZE, give_pages);
    asked = NULL;
    kfree(kmalloc(2048, GFP_ATOMIC)); // without a mark nobody asks
    free_pages(alloc_pages(GFP_ATOMIC, 3), 3);
    assert_null(asked);
    page_lent_hook = NULL;
}

// ---- the check itself ---------------------------------------------------------------------------

static void selfcheck_finds_damage(void **state)
{
    (void)state;
    char *object = kmalloc(256, GFP_ATOMIC);
    struct slab *slab = page_of(object)->owner;
    unsigned i = 0;

    drain_all(); // all but the one go back to their slab

    while ((slab->free_map[0] & BIT64(i)) == 0) {
        i++;
    }
    slab->base[i * 256] ^= 1;
    assert_int_equal(slab_selfcheck(), 1);
    slab->base[i * 256] ^= 1;
    slab->free_map[0] ^= BIT64(i);
    assert_int_equal(slab_selfcheck(), 1);
    slab->free_map[0] ^= BIT64(i);
    slab->cache->slabs++;
    assert_int_equal(slab_selfcheck(), 1);
    slab->cache->slabs--;
    assert_int_equal(slab_selfcheck(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, healthy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(written_after_free),        TEST(beyond_the_poison),      TEST(freed_twice),
        TEST(freed_twice_without_marks), TEST(marks_by_chance),        TEST(foreign_pointers),
        TEST(what_is_lent_is_not_freed), TEST(selfcheck_finds_damage),
    };

    return cmocka_run_group_tests_name("slab_misuse", tests, NULL, NULL);
}
