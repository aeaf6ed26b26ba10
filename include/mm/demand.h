// Memory that has no pages until somebody touches it: each first touch of a page is a page fault
// that is repaired, and the instruction that faulted is run again as if nothing had been.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>

struct frame;

// Addresses for `size` bytes, and nothing behind them yet; NULL when there is no room, or too many
// such regions. What is read first is zero. May be touched wherever a page may be allocated: not
// from an NMI, not under the locks of kernel/mm. When no page is left then, the fault is as fatal
// as any. Context: thread.
void *demand_alloc(size_t size) __must_check;
// The pages too. NULL is fine. Context: thread.
void demand_free(void *region);

// Tied to exception_fixup_page by kernel_main: true when it put a page where the fault was.
bool demand_fault(uintptr_t address, struct frame *frame);

// The last fault that was repaired, for whoever wants to show it.
struct demand_event {
    uintptr_t address, rip; // CR2, and the instruction that will be run again
    uint64_t error;         // the CPU's code
    uint64_t entry;         // the page table entry as it is now
    uint64_t cycles;        // from the handler's first look to its last
};
void demand_last(struct demand_event *event);
uint64_t demand_fault_count(void); // repaired, since boot
