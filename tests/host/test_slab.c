// The slab caches on pretended CPUs: no object twice, none lost, misuse reported, nothing held back
// when all is freed.
//
// The caches and the page allocator are included, not linked, so that each test starts them afresh.
// A CPU is who %gs says it is: the tests move from one to another by arch_prctl. Interrupts cannot
// be switched off in a process; they are counted instead.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c kernel/lib/cpumask.c kernel/lib/string.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <core/cpu.h>
#include <core/panic.h>

static unsigned irqs_off_depth;

static unsigned long host_irq_save(void)
{
    return irqs_off_depth++ == 0 ? CPU_FLAGS_IF : 0;
}

static void host_irq_restore(unsigned long flags)
{
    irqs_off_depth--;
    assert((irqs_off_depth == 0) == (flags == CPU_FLAGS_IF));
}
#define local_irq_save    host_irq_save
#define local_irq_restore host_irq_restore

#include "kernel/mm/page.c"
#include "kernel/mm/page_boot.c"
#include "kernel/mm/page_show.c"
#include "kernel/mm/slab.c"
#include "kernel/mm/slab_cache.c"
#include "kernel/mm/slab_mark.c"
#include "kernel/mm/slab_pages.c"
#include "kernel/mm/slab_show.c"
#include "stubs/stubs.h"

#define MIB (1024ull * 1024)

// ---- what the allocators ask of the kernel ------------------------------------------------------

__asm__(".data\n"
        ".globl kernel_start, kernel_end, text_start, text_end, rodata_start, rodata_end\n"
        ".globl data_start, data_end, bss_start, bss_end\n"
        ".balign 4096\n"
        "kernel_start: rodata_start: rodata_end: data_start: data_end: bss_start:\n .skip 4096\n"
        "bss_end: kernel_end:\n"
        ".text\n");
// What counts as an address of code, as the test's own is.
__asm__(".globl text_start, text_end\n.set text_start, __executable_start\n.set text_end, etext\n");

unsigned long host_kernel_base;
struct cpu cpus[MAX_CPUS];
unsigned cpu_count = 4;

unsigned cpu_phys_bits(void)
{
    return 40;
}

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    (void)kind;
    (void)start;
    (void)end;
    (void)name;
    return 0;
}

void text_symbol(struct text *t, uintptr_t address)
{
    text_printf(t, "%#lx", (unsigned long)address);
}

static void on_cpu(unsigned cpu)
{
    cpus[cpu].id = cpu;
    cpus[cpu].self = &cpus[cpu];
    assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, &cpus[cpu]), 0);
}

// ---- scaffolding --------------------------------------------------------------------------------

static struct boot_info boot;

static int start(uint64_t ram)
{
    void *want = (void *)PHYS_BASE;
    if (mmap(want, 256 * MIB, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != want) {
        return -1;
    }
    host_kernel_base = (uintptr_t)kernel_start - MIB;
    memset(zones[0].free_blocks, 0, sizeof(zones[0].free_blocks));
    page_region_count = page_span_count = page_keep_count = 0;
    page_total = 0;
    page_low = 0;
    memset(slab_cpus, 0, sizeof(slab_cpus));
    memset(slab_caches, 0, sizeof(slab_caches));
    slab_page_bytes = 0;
    warn_count = 0;
    irqs_off_depth = 0;
    boot.region_count = 1;
    boot.regions[0] = (struct boot_region){.base = MIB, .size = ram, .type = BOOT_REGION_RAM};
    on_cpu(0);
    page_init(&boot);
    slab_init();
    stub_log_clear();
    return 0;
}

static int reset(void **state)
{
    (void)state;
    slab_debug = SLAB_DEBUG_QUICK;
    return start(64 * MIB);
}

static int healthy(void **state)
{
    (void)state;
    assert_int_equal(slab_selfcheck(), 0);
    assert_int_equal(page_selfcheck(), 0);
    assert_int_equal(irqs_off_depth, 0);
    return 0;
}

static struct kmem_cache *cache_of(size_t size)
{
    void *object = kmalloc(size, GFP_ATOMIC);
    struct slab *slab = page_of(object)->owner;

    kfree(object);
    return slab->cache;
}

static void reported(const char *what)
{
    assert_int_equal(warn_count, 1);
    if (strstr(stub_log(), what) == NULL) {
        fail_msg("'%s' does not say '%s'", stub_log(), what);
    }
    warn_count = 0;
    stub_log_clear();
}

// Everything that CPUs sit on goes back to the slabs.
static void drain_all(void)
{
    for (unsigned i = 0; i < SLAB_CACHES; i++) {
        if (slab_caches[i] != NULL) {
            cache_drain(slab_caches[i]);
        }
    }
    cache_drain(slab_meta_cache); // last: deleting slabs filled its magazine again
}

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

// ---- misuse -------------------------------------------------------------------------------------

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_size_gets_room, reset, healthy),
        cmocka_unit_test_setup_teardown(powers_of_two_are_aligned, reset, healthy),
        cmocka_unit_test_setup_teardown(zeroes, reset, healthy),
        cmocka_unit_test_setup_teardown(low_memory_for_dma, reset, healthy),
        cmocka_unit_test_setup_teardown(random_traffic, reset, healthy),
        cmocka_unit_test_setup_teardown(one_allocates_another_frees, reset, healthy),
        cmocka_unit_test_setup_teardown(out_of_memory_is_null, reset, healthy),
        cmocka_unit_test_setup_teardown(no_memory_for_magazines, reset, healthy),
        cmocka_unit_test_setup_teardown(written_after_free, reset, healthy),
        cmocka_unit_test_setup_teardown(beyond_the_poison, reset, healthy),
        cmocka_unit_test_setup_teardown(what_is_lent_is_not_freed, reset, healthy),
        cmocka_unit_test_setup_teardown(freed_twice, reset, healthy),
        cmocka_unit_test_setup_teardown(freed_twice_without_marks, reset, healthy),
        cmocka_unit_test_setup_teardown(marks_by_chance, reset, healthy),
        cmocka_unit_test_setup_teardown(foreign_pointers, reset, healthy),
        cmocka_unit_test_setup_teardown(selfcheck_finds_damage, reset, healthy),
        cmocka_unit_test_setup_teardown(a_cache_of_ones_own, reset, healthy),
        cmocka_unit_test_setup_teardown(caches_run_out, reset, healthy),
        cmocka_unit_test_setup_teardown(the_proc_file, reset, healthy),
    };

    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
