// Memory that comes when it is touched: faults that are repaired, and those that are not.
#include "every_cpu.h"

#include <lib/string.h>
#include <mm/demand.h>
#include <mm/map.h>
#include <mm/page.h>
#include <x86/exception.h>
#include <x86/pte.h>

enum { DEMAND_TEST_PAGES = 16 };

static uint64_t demand_test_faults(void)
{
    uint64_t total = 0;

    for_each_online_cpu (cpu) {
        total += exception_count(EXC_PF, cpu);
    }
    return total;
}

KTEST(demand, each_page_faults_once)
{
    struct page_stats before, after;
    page_stats(&before);
    uint8_t *region = demand_alloc(DEMAND_TEST_PAGES * PAGE_SIZE);
    REQUIRE(region != NULL);
    uint64_t count = demand_fault_count(), faults = demand_test_faults();

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned page = 0; page < DEMAND_TEST_PAGES; page++) {
            uint8_t *at = region + page * PAGE_SIZE + 100 * page;
            EXPECT_EQ(*(volatile uint8_t *)at, round);
            *(volatile uint8_t *)at = (uint8_t)(round + 1);
        }
    }
    EXPECT_EQ(demand_fault_count() - count, DEMAND_TEST_PAGES);
    EXPECT_EQ(demand_test_faults() - faults, DEMAND_TEST_PAGES); // and no other fault
    demand_free(region);
    page_stats(&after);
    EXPECT(after.free_bytes + 4 * PAGE_SIZE >= before.free_bytes); // page tables may stay
}

// One string instruction across four pages: each fault goes on in its middle.
KTEST(demand, an_instruction_goes_on_in_its_middle)
{
    uint8_t *region = demand_alloc(4 * PAGE_SIZE), *to = region;
    size_t left = 4 * PAGE_SIZE;
    REQUIRE(region != NULL);
    uint64_t count = demand_fault_count();

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(left) : "a"(0x42) : "memory");
    EXPECT_EQ(demand_fault_count() - count, 4);
    EXPECT_EQ(left, 0);
    EXPECT(to == region + 4 * PAGE_SIZE);
    EXPECT_EQ(region[0], 0x42);
    EXPECT_EQ(region[4 * PAGE_SIZE - 1], 0x42);
    demand_free(region);
}

static void demand_test_count(struct every_cpu *self)
{
    uint32_t *words = self->arg;

    for (unsigned page = 0; page < DEMAND_TEST_PAGES; page++) {
        __atomic_fetch_add(words + page * PAGE_SIZE / sizeof(*words), 1, __ATOMIC_SEQ_CST);
    }
}

// All CPUs at once on the same new pages: nobody's word is lost with a page that came second.
KTEST(demand, every_cpu_at_once)
{
    for (unsigned round = 0; round < 10; round++) {
        uint32_t *words = demand_alloc(DEMAND_TEST_PAGES * PAGE_SIZE);
        REQUIRE(words != NULL);
        EXPECT(every_cpu_run(ktest, demand_test_count, words));
        for (unsigned page = 0; page < DEMAND_TEST_PAGES; page++) {
            EXPECT_EQ(words[page * PAGE_SIZE / sizeof(*words)], cpumask_weight(&cpu_online_mask));
        }
        demand_free(words);
    }
}

static void demand_test_read(void *arg)
{
    (void)*(volatile uint8_t *)arg;
}

static void demand_test_run(void *arg)
{
    ((void (*)(void))arg)();
}

// Beside the region, behind its end, after its life: ordinary faults. Its pages are not for
// running.
KTEST(demand, only_the_region)
{
    uint8_t *region = demand_alloc(2 * PAGE_SIZE);
    REQUIRE(region != NULL);
    uint64_t count = demand_fault_count();
    EXPECT_EQ(exception_catch(demand_test_read, region - 1, NULL), EXC_PF);
    EXPECT_EQ(exception_catch(demand_test_read, region + 2 * PAGE_SIZE, NULL), EXC_PF);
    EXPECT_EQ(demand_fault_count(), count);
    EXPECT_EQ(exception_catch(demand_test_read, region, NULL), -1);
    EXPECT_EQ(exception_catch(demand_test_run, region, NULL), EXC_PF);
    demand_free(region);
    EXPECT_EQ(exception_catch(demand_test_read, region, NULL), EXC_PF);
    EXPECT_EQ(demand_fault_count(), count + 1);
}

KTEST(demand, no_region_is_refused)
{
    void *regions[9];
    unsigned got = 0;

    EXPECT(demand_alloc(0) == NULL);
    while (got < ARRAY_SIZE(regions) && (regions[got] = demand_alloc(1)) != NULL) {
        got++;
    }
    EXPECT(got < ARRAY_SIZE(regions)); // there is a limit
    EXPECT(got >= 4);
    while (got > 0) {
        demand_free(regions[--got]);
    }
    demand_free(NULL);
}
