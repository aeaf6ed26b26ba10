// Physical pages: a buddy allocator over the boot map's RAM, and the arithmetic between physical
// and virtual addresses.
//
//   boot map:  [ RAM ][ reserved ][ RAM ........... ][ ACPI ][ RAM above 4 GiB ... ]
//   pages:      one struct page each; free ones in lists by order and zone
//               (DMA32 below 4 GiB, NORMAL above)
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/boot_info.h>
#include <lib/types.h>
#include <x86/pte.h>

enum { PAGE_MAX_ORDER = 10 }; // blocks of 4 KiB << 0 .. 10

enum gfp {          // flags of allocations; names as in Linux
    GFP_KERNEL = 0, // thread context, may reclaim
    GFP_ATOMIC = 1, // any context
    GFP_ZERO = 2,   // filled with zeroes
    GFP_DMA32 = 4,  // below 4 GiB
};

// Builds the direct map's allocator from the boot map (sorted and checked here). Regions that the
// kernel image, boot data and `mem=` exclude are left out. Context: boot, once.
void page_init(const struct boot_info *boot);

// 2^order pages, physically contiguous, aligned to their size; the direct-map address or NULL.
// Context: GFP_ATOMIC any, else thread.
void *alloc_pages(enum gfp flags, unsigned order) __must_check;
// The same with every byte at or below `highest`, for devices that cannot reach farther; takes
// longer. Context: GFP_ATOMIC any, else thread.
void *alloc_pages_within(enum gfp flags, unsigned order, phys_t highest) __must_check;
void free_pages(void *address, unsigned order); // Context: any
static inline void *alloc_page(enum gfp flags)
{
    return alloc_pages(flags, 0);
}
// Context: any.
static inline void free_page(void *address)
{
    free_pages(address, 0);
}
// Smallest order whose block holds size bytes.
unsigned page_order(size_t size);

// A checker's mark on [start, +size), which a device owns now (`change` 1) or no longer (-1): on
// its first and its last page, so that the price does not grow with the size. kfree and free_pages
// look at the mark, which costs them one comparison, and ask the hook about a page that has one: is
// any of [start, +size) lent? True: it is, the hook has said so, and the memory is not freed.
// Context: any.
void page_lend(phys_t start, uint64_t size, int change);
extern bool (*page_lent_hook)(const void *start, size_t size, const void *caller);

// A free page below 1 MiB for the AP trampoline, taken out of the allocator for good; 0 when there
// is none. Context: boot.
phys_t page_take_low(void);

static inline void *phys_to_virt(phys_t address)
{
    return (void *)(PHYS_BASE + address);
}
// For direct-map and kernel-image addresses only; asserts otherwise.
phys_t virt_to_phys(const void *address);

// Pages that a layer above keeps for later, counted by it for /proc/meminfo; names as in Linux.
// Context: any.
enum page_use { NR_FILE_PAGES, NR_FILE_DIRTY, NR_WRITEBACK, NR_PAGE_USES };
void page_count_add(enum page_use use, long pages);
uint64_t page_count(enum page_use use);
uint64_t page_clean_bytes(void); // of them, what could be given back at once
// Asked for so many pages when none is found: gives back what it can, and says how many that were.
// `may_wait`: a thread asks that may sleep, for a second at most. Handed down by the page cache;
// NULL before. Context: of whoever allocates, with its locks held.
extern unsigned long (*page_reclaim)(unsigned long pages, bool may_wait); // I
// For allocators on top: has memory come that one may try again for? Never where the flags,
// or the context, forbid to wait. Context: any.
bool page_reclaim_wait(enum gfp flags);

struct page_stats {
    uint64_t total_bytes, free_bytes, free_blocks[PAGE_MAX_ORDER + 1];
    uint64_t largest_free_order;
};
void page_stats(struct page_stats *stats);
extern phys_t page_main_start, page_main_size; // I: the largest piece of usable RAM
extern phys_t page_first_size;                 // I: of the piece that begins at 0
bool page_is_ram_anywhere(phys_t address);
// All of [address, address + size) is in that piece; false for a size of 0.
static inline bool page_is_main_ram(phys_t address, size_t size)
{
    phys_t offset = address - page_main_start;
    return likely(offset < page_main_size && size - 1 < page_main_size - offset);
}
static inline bool page_is_ram(phys_t address) // usable RAM of the boot map
{
    return likely(address - page_main_start < page_main_size) || address < page_first_size ||
           page_is_ram_anywhere(address);
}
// The pieces of usable RAM in whole pages, ascending, and whether one of them touches [address,
// address + size).
bool page_ram_piece(unsigned index, phys_t *start, phys_t *end); // false behind the last
uint64_t page_free_count(void); // pages, without a lock: a snapshot
bool page_overlaps_ram(phys_t address, uint64_t size);

// Walks free lists and checks them; 0 or the number of errors found (each logged). Context: thread.
unsigned page_selfcheck(void);
