// The slab caches on pretended CPUs: room for every size, no object twice, none lost, nothing held
// back when all is freed. What is done to them wrongly: test_slab_misuse.c.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c kernel/lib/cpumask.c kernel/lib/string.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/resource.c
// links: tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include "slab_case.h"

// ---- sizes --------------------------------------------------------------------------------------

static void every_size_gets_room(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 20000; size += size < 200 ? 1 : 97) {
        char *object = kmalloc(size, GFP_ATOMIC);

        assert_non_null(object);
        assert_in_range(ksize(object), size,
                        size <= 16        ? 16
                        : 2 * size > 8192 ? SIZE_MAX
                                          : 2 * size - 1);
        assert_true(IS_ALIGNED((uintptr_t)object, 16));
        memset(object, 0xff, ksize(object));
        kfree(object);
    }
    assert_int_equal(warn_count, 0);
    assert_null(kmalloc(0, GFP_ATOMIC));
    assert_null(kmalloc(4 * MIB + 1, GFP_ATOMIC));
    assert_null(kmalloc(SIZE_MAX, GFP_ATOMIC));
    assert_null(kcalloc(SIZE_MAX / 2, 3, GFP_ATOMIC));
    assert_null(kcalloc(1ull << 32, 1ull << 32, GFP_ATOMIC));
    kfree(NULL);
    assert_int_equal(ksize(NULL), 0);
}

static void powers_of_two_are_aligned(void **state)
{
    (void)state;
    for (unsigned shift = 4; shift <= 22; shift++) {
        void *object[5];

        for (unsigned i = 0; i < 5; i++) {
            object[i] = kmalloc((size_t)1 << shift, GFP_ATOMIC);
            assert_non_null(object[i]);
            assert_true(IS_ALIGNED((uintptr_t)object[i], (size_t)1 << min(shift, 12u)));
        }
        for (unsigned i = 0; i < 5; i++) {
            kfree(object[i]);
        }
    }
}

static void zeroes(void **state)
{
    (void)state;
    for (size_t size = 1; size < 10000; size = size * 3 + 1) {
        char *object = kmalloc(size, GFP_ATOMIC);
        memset(object, 0xee, size);
        kfree(object);
        char *again = kzalloc(size, GFP_ATOMIC);
        assert_ptr_equal(again, object); // last in, first out: or this proves nothing
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(again[i], 0);
        }
        kfree(again);
    }
}

static void low_memory_for_dma(void **state)
{
    (void)state;
    char *object = kmalloc(100, GFP_ATOMIC | GFP_DMA32);
    assert_non_null(object);
    assert_int_equal(page_of(object)->kind, PAGE_USED); // whole pages
    kfree(object);
}

// ---- traffic ------------------------------------------------------------------------------------

// Four CPUs allocate and free at random, each also what others allocated. Every object carries its
// slot's number at both ends.
static void random_traffic(void **state)
{
    (void)state;
    enum { SLOTS = 2000, ROUNDS = 200000 };
    static struct {
        uint64_t *object;
        size_t words;
    } slot[SLOTS];
    uint64_t before = page_free_count();

    srand(11);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)rand() % SLOTS;

        on_cpu((unsigned)rand() % 4);
        if (slot[i].object == NULL) {
            size_t size = 16 + (size_t)rand() % (rand() % 16 == 0 ? 12000 : 600);

            slot[i].object = kmalloc(size, rand() % 2 ? GFP_ATOMIC : GFP_ZERO);
            assert_non_null(slot[i].object);
            slot[i].words = ksize(slot[i].object) / 8;
            slot[i].object[0] = i;
            slot[i].object[slot[i].words - 1] = ~(uint64_t)i;
        } else {
            assert_int_equal(slot[i].object[0], i);
            assert_int_equal(slot[i].object[slot[i].words - 1], ~(uint64_t)i);
            kfree(slot[i].object);
            slot[i].object = NULL;
        }
        if (round % 20000 == 0) {
            healthy(state);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        on_cpu(i % 4);
        kfree(slot[i].object);
        slot[i].object = NULL;
    }
    assert_int_equal(warn_count, 0);
    on_cpu(0);
    drain_all();
    // What is left: two pages of magazines for each CPU, and the slab of slabs.
    assert_in_range(before - page_free_count(), 8, 8 + slab_bytes() / PAGE_SIZE);
    assert_in_range(slab_bytes(), 0, 2 * PAGE_SIZE);
}

static struct kmem_cache *cache_of(size_t size)
{
    void *object = kmalloc(size, GFP_ATOMIC);
    struct slab *slab = page_of(object)->owner;

    kfree(object);
    return slab->cache;
}

// A packet allocated on one CPU and freed on another, for ever: memory must not pile up on either.
static void one_allocates_another_frees(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 10000; round++) {
        on_cpu(1);
        void *object = kmalloc(2048, GFP_ATOMIC);
        assert_non_null(object);
        on_cpu(2);
        kfree(object);
    }
    on_cpu(0);
    assert_in_range(cache_of(2048)->slabs, 1, 12);
}

static void out_of_memory_is_null(void **state)
{
    (void)state;
    start(4 * MIB);
    for (unsigned shift = 4; shift <= 14; shift++) {
        void *chain = NULL;
        unsigned count = 0;

        for (void **object; (object = kmalloc((size_t)1 << shift, GFP_ATOMIC)) != NULL; count++) {
            *object = chain;
            chain = object;
        }
        assert_in_range(count, 100, 4 * MIB >> shift);
        while (chain != NULL) {
            void *next = *(void **)chain;
            kfree(chain);
            chain = next;
        }
        drain_all();
    }
    assert_int_equal(warn_count, 0);
}

static void no_memory_for_magazines(void **state)
{
    (void)state;
    start(4 * MIB);
    void *object = kmalloc(64, GFP_ATOMIC);
    while (alloc_page(GFP_ATOMIC) != NULL) {
    }
    on_cpu(3);
    assert_null(kmalloc(64, GFP_ATOMIC)); // no magazines, no way in
    kfree(object);                        // but always a way out
    on_cpu(0);
    assert_int_equal(warn_count, 0);
    assert_ptr_equal(kmalloc(64, GFP_ATOMIC) != NULL, true);
}

// ---- caches -------------------------------------------------------------------------------------

static void a_cache_of_ones_own(void **state)
{
    (void)state;
    struct kmem_cache *cache = kmem_cache_create("thing", 72, 64);
    void *things[100];

    assert_non_null(cache);
    for (unsigned i = 0; i < 100; i++) {
        things[i] = kmem_cache_alloc(cache, GFP_ATOMIC);
        assert_non_null(things[i]);
        assert_true(IS_ALIGNED((uintptr_t)things[i], 64));
    }
    void *stranger = kmalloc(128, GFP_ATOMIC);
    kmem_cache_free(cache, stranger);
    reported("belongs to another cache");
    kmem_cache_free(cache, &cache);
    reported("is no object of a slab");
    kmem_cache_free(cache, NULL);
    kmem_cache_destroy(cache);
    reported("100 objects are still in use");
    for (unsigned i = 0; i < 100; i++) {
        on_cpu(i % 4);
        kmem_cache_free(cache, things[i]);
    }
    on_cpu(0);
    kmem_cache_destroy(cache);
    assert_int_equal(warn_count, 0);
    kmem_cache_destroy(NULL);
}

static void caches_run_out(void **state)
{
    (void)state;
    struct kmem_cache *caches[SLAB_CACHES];
    unsigned count = 0;

    assert_null(kmem_cache_create("nothing", 0, 0));
    assert_null(kmem_cache_create("large", 8193, 0));
    assert_null(kmem_cache_create("odd", 100, 24));
    while ((caches[count] = kmem_cache_create("c", 32, 0)) != NULL) {
        count++;
        assert_true(count < SLAB_CACHES);
    }
    assert_int_equal(count, SLAB_CACHES - KMALLOC_CACHES - 1);
    while (count > 0) {
        kmem_cache_destroy(caches[--count]);
    }
    struct kmem_cache *again = kmem_cache_create("again", 32, 0);
    assert_non_null(again);
    kmem_cache_free(again, kmem_cache_alloc(again, GFP_ATOMIC));
    kmem_cache_destroy(again);
}

static void the_proc_file(void **state)
{
    (void)state;
    char buffer[8000];
    struct text t = TEXT_INIT(buffer);
    void *objects[3];

    for (unsigned i = 0; i < 3; i++) {
        objects[i] = kmalloc(256, GFP_ATOMIC);
    }
    slab_show_slabinfo(&t, 0);
    assert_ptr_equal(strstr(buffer, "slabinfo - version: 2.1\n"), buffer);
    assert_non_null(strstr(buffer, "\nkmalloc-256            3     16    256   16    1 : tunables  "
                                   " 31   16    0 : slabdata      1      1      0\n"));
    kfree(objects[0]);
    assert_int_equal(slab_set_debug("on"), 0);
    assert_int_equal(slab_set_debug("off"), 0);
    assert_int_equal(slab_set_debug(""), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, healthy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_size_gets_room),
        TEST(powers_of_two_are_aligned),
        TEST(zeroes),
        TEST(low_memory_for_dma),
        TEST(random_traffic),
        TEST(one_allocates_another_frees),
        TEST(out_of_memory_is_null),
        TEST(no_memory_for_magazines),
        TEST(a_cache_of_ones_own),
        TEST(caches_run_out),
        TEST(the_proc_file),
    };

    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
