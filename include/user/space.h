// Address spaces: the page tables and pages of one program each.
//
//   0x0000000000400000   the program: text, constants, data, each with its own rights
//          ...
//   0x00007fffffff7000   its stack, SPACE_STACK_PAGES, nothing below
//   0x00007ffffffff000   SPACE_END; the lower half's last page stays empty
//          ...
//   0xffff800000000000   the kernel's half, the same tables in every address space
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>
#include <x86/pte.h>

#define SPACE_BEGIN 0x10000ul // a NULL pointer and its neighbourhood are nobody's
#define SPACE_END   0x7ffffffff000ul

struct space {
    uint64_t *root; // I: the top table, by the kernel's address
    unsigned pages; // how many it holds, tables included
};

// 0 or -ENOMEM. Context: thread.
int space_init(struct space *space);
// Maps a new page of zeroes at a page's address in [SPACE_BEGIN, SPACE_END) and returns where the
// kernel sees it; NULL: no memory, or something is there, or it may be both written and executed.
// `flags`: PTE_W or PTE_NX or both. Context: thread, before the program runs.
void *space_map(struct space *space, uintptr_t address, uint64_t flags);
// Gives all of it back. No CPU may have its tables loaded. Context: thread.
void space_free(struct space *space);
// Loads the address space for the running thread and keeps it loaded whenever the thread runs;
// NULL: back to the kernel's. Context: thread.
void space_enter(const struct space *space);

// Is [address, address + size) wholly between SPACE_BEGIN and SPACE_END?
bool space_holds(uintptr_t address, size_t size);

// Pages that all address spaces together hold. Context: any.
uint64_t space_page_count(void);
