// Demand-mapped memory: the smallest example of a fault that is repaired.
//
//   mov (%rdi), %rax ──> no entry: #PF, CR2 = rdi, rip = this very instruction
//        ^                  │
//        │             exception() ──> demand_fault: a zeroed page, an entry for it
//        └──────────── IRETQ to the same rip: now it reads a zero
//
// That is all of what a larger kernel does for a program's stack, heap and files; where its page
// comes from differs. Here the kernel itself is the one that faults. The CPU has not kept the
// missing entry in its TLB (Intel SDM vol. 3, 4.10.2.3), so none has to be flushed.
//
// Two CPUs may fault on one page at once: the second finds the entry there, and gives its page
// back.
//
// Intel SDM vol. 3, 4.7, 6.15 (#PF). Context: demand_fault in the exception, interrupts off, on the
// stack of whoever faulted; the others thread.
#include <core/cpu.h>
#include <core/spinlock.h>
#include <x86/frame.h>
#include <x86/pte.h>
#include <mm/demand.h>
#include <mm/map.h>
#include <mm/page.h>
#include "internal.h"

enum { DEMAND_REGIONS = 8, PF_PRESENT = 1 };

static DEFINE_SPINLOCK(demand_lock);
// Read without the lock: a region that is touched is not being freed.
static struct {
    uintptr_t start; // L: 0: free
    size_t size;     // L
} demand_regions[DEMAND_REGIONS];
static struct demand_event demand_newest; // L
static uint64_t demand_faults;            // L

void *demand_alloc(size_t size)
{
    might_sleep();
    size = ALIGN_UP(size, PAGE_SIZE);
    uintptr_t start =
        size != 0 ? (uintptr_t)vmap_demand_take(size, __builtin_return_address(0)) : 0;
    unsigned long flags;
    bool kept = false;

    spin_lock_irqsave(&demand_lock, flags);
    for (unsigned i = 0; i < DEMAND_REGIONS && start != 0 && !kept; i++) {
        if (demand_regions[i].start == 0) {
            demand_regions[i].size = size;
            WRITE_ONCE(demand_regions[i].start, start);
            kept = true;
        }
    }
    spin_unlock_irqrestore(&demand_lock, flags);
    if (start != 0 && !kept) {
        vmap_demand_give((void *)start);
    }
    return kept ? (void *)start : NULL;
}

void demand_free(void *region)
{
    unsigned long flags;

    might_sleep();
    if (region == NULL) {
        return;
    }
    spin_lock_irqsave(&demand_lock, flags);
    for (unsigned i = 0; i < DEMAND_REGIONS; i++) {
        if (demand_regions[i].start == (uintptr_t)region) {
            WRITE_ONCE(demand_regions[i].start, 0);
        }
    }
    spin_unlock_irqrestore(&demand_lock, flags);
    vmap_demand_give(region);
}

static bool demand_has(uintptr_t address)
{
    for (unsigned i = 0; i < DEMAND_REGIONS; i++) {
        uintptr_t start = READ_ONCE(demand_regions[i].start);

        if (start != 0 && address - start < demand_regions[i].size) {
            return true;
        }
    }
    return false;
}

// A page behind an address; true when there is one now, whoever put it there.
static bool demand_populate(uintptr_t address)
{
    uintptr_t at = ALIGN_DOWN(address, PAGE_SIZE);
    unsigned level;
    void *page = alloc_page(GFP_ATOMIC | GFP_ZERO);

    if (page == NULL) {
        return false;
    }
    if (map_range(at, virt_to_phys(page), PAGE_SIZE, PTE_W | PTE_NX | PTE_G) != 0) {
        free_page(page);
    }
    return (map_lookup(at, &level) & PTE_P) != 0;
}

bool demand_fault(uintptr_t address, struct frame *frame)
{
    uint64_t start = rdtsc();
    unsigned level;

    if ((frame->error & PF_PRESENT) || in_nmi() || !demand_has(address) ||
        !demand_populate(address)) {
        return false;
    }
    spin_lock(&demand_lock);
    demand_faults++;
    demand_newest = (struct demand_event){.address = address,
                                          .rip = frame->rip,
                                          .error = frame->error,
                                          .entry = map_lookup(address, &level),
                                          .cycles = rdtsc() - start};
    spin_unlock(&demand_lock);
    return true;
}

void demand_last(struct demand_event *event)
{
    unsigned long flags;

    spin_lock_irqsave(&demand_lock, flags);
    *event = demand_newest;
    spin_unlock_irqrestore(&demand_lock, flags);
}

uint64_t demand_fault_count(void)
{
    return READ_ONCE(demand_faults);
}
