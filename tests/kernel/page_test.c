// The page allocator under all CPUs at once, and its objections to misuse. What maps it can be
// given: tests/host/test_page_boot.c.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/panic.h>
#include <mm/page.h>

#include "every_cpu.h"

enum { PAGE_SLOTS = 64, PAGE_ROUNDS = 4000 };

struct page_slot {
    uint64_t *at;
    unsigned order;
};

// First and last word of a block carry its owner's mark: whoever else had the block would overwrite
// them.
static uint64_t *page_last(const struct page_slot *slot)
{
    return (uint64_t *)((char *)slot->at + ((size_t)PAGE_SIZE << slot->order)) - 1;
}

static void page_stress(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    struct page_slot slots[PAGE_SLOTS] = {0};
    unsigned broken = 0;

    for (unsigned round = 0; round < PAGE_ROUNDS; round++) {
        unsigned i = every_cpu_random(self) % PAGE_SLOTS;
        struct page_slot *slot = &slots[i];
        uint64_t mark = (uint64_t)self->cpu << 32 | i;

        if (slot->at == NULL) {
            slot->order = every_cpu_random(self) % 4;
            slot->at = alloc_pages(GFP_KERNEL, slot->order);
            if (slot->at != NULL) {
                *slot->at = mark;
                *page_last(slot) = ~mark;
            }
        } else {
            broken += *slot->at != mark || *page_last(slot) != ~mark;
            free_pages(slot->at, slot->order);
            slot->at = NULL;
        }
    }
    for (unsigned i = 0; i < PAGE_SLOTS; i++) {
        if (slots[i].at != NULL) {
            free_pages(slots[i].at, slots[i].order);
        }
    }
    EXPECT_EQ(broken, 0);
}

KTEST(page, every_cpu_at_once)
{
    REQUIRE(every_cpu_run(ktest, page_stress, NULL));
    EXPECT_EQ(page_selfcheck(), 0);
}

KTEST(page, blocks_are_aligned_and_zeroed)
{
    for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
        char *block = alloc_pages(GFP_KERNEL | GFP_ZERO, order);

        REQUIRE(block != NULL);
        EXPECT(IS_ALIGNED(virt_to_phys(block), PAGE_SIZE << order));
        EXPECT(memchr(block, 0, 1) != NULL && block[(PAGE_SIZE << order) - 1] == 0);
        memset(block, 0xff, PAGE_SIZE); // what the next one that asks for zeroes may not see
        free_pages(block, order);
    }
    EXPECT(alloc_pages(GFP_KERNEL, PAGE_MAX_ORDER + 1) == NULL);
}

KTEST(page, below_four_gib_and_below_a_mask)
{
    void *low = alloc_page(GFP_KERNEL | GFP_DMA32);
    void *within = alloc_pages_within(GFP_KERNEL, 2, (16u << 20) - 1);

    REQUIRE(low != NULL);
    EXPECT(virt_to_phys(low) < BIT64(32));
    free_page(low);
    REQUIRE(within != NULL);
    EXPECT(virt_to_phys(within) + 4 * PAGE_SIZE <= 16u << 20);
    free_pages(within, 2);
    EXPECT(alloc_pages_within(GFP_KERNEL, 0, 0) == NULL);
}

KTEST(page, double_free_is_reported_and_leaks)
{
    // The largest: others are handed a piece of it only when there is nothing smaller.
    void *block = alloc_pages(GFP_KERNEL, PAGE_MAX_ORDER);

    REQUIRE(block != NULL);
    free_pages(block, PAGE_MAX_ORDER);
    ktest->warnings_expected = 1;
    free_pages(block, PAGE_MAX_ORDER);
    EXPECT_EQ(page_selfcheck(), 0);
}

KTEST(page, wrong_order_is_reported_and_leaks)
{
    char *block = alloc_pages(GFP_KERNEL, 2);

    REQUIRE(block != NULL);
    ktest->warnings_expected = 3;
    free_pages(block, 1);
    free_pages(block + PAGE_SIZE, 0);
    free_pages((void *)&page_stress, 0); // the kernel's own text
    free_pages(block, 2);
    EXPECT_EQ(page_selfcheck(), 0);
}

// Takes all there is, in large blocks and then in single pages; gives all back, and everything
// joins up again. The blocks are not written to: on an emulator, memory that nobody touched costs
// the host nothing.
KTEST(page, exhaustion_is_null_and_comes_back)
{
    struct page_stats before, after;
    page_stats(&before);
    unsigned room = (unsigned)(before.free_bytes >> (PAGE_SHIFT + PAGE_MAX_ORDER)) + 16384,
             taken = 0;
    struct page_slot *blocks = vmalloc(room * sizeof(*blocks));

    REQUIRE(blocks != NULL);
    for (int order = PAGE_MAX_ORDER; order >= 0; order -= PAGE_MAX_ORDER) {
        for (uint64_t *at;
             taken < room && (at = alloc_pages(GFP_KERNEL, (unsigned)order)) != NULL;) {
            blocks[taken++] = (struct page_slot){.at = at, .order = (unsigned)order};
        }
    }
    EXPECT(taken < room);
    while (taken > 0) {
        taken--;
        free_pages(blocks[taken].at, blocks[taken].order);
    }
    vfree(blocks);
    page_stats(&after);
    EXPECT_EQ(page_selfcheck(), 0);
    // Others allocate too: a few pages may have changed hands.
    EXPECT(after.free_bytes + (1u << 20) > before.free_bytes);
    EXPECT_EQ(after.largest_free_order, before.largest_free_order);
}
