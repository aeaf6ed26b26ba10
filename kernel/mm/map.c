// The kernel's page tables: built once at boot, extended at run time by vmap.c, shared by all CPUs.
//
//   PHYS_BASE    direct map   RAM only, write, no-execute, by 1 GiB, 2 MiB or 4 KiB pages;
//                             the aliases of text and constants read-only
//   VMAP_BASE    areas        kernel/mm/vmap.c
//   KERNEL_BASE  image        text: read, execute; rodata: read; data, bss: write;
//                             the boot stack's guard page: nothing
//
// No page is both writable and executable (map_audit walks all tables to prove it), and nothing
// lies in the lower half, so that a NULL pointer faults. Other CPUs start on the tables of
// boot/start.S, which map the low memory that the trampoline runs in, and load these when they are
// in the upper half.
//
// Tables are never freed while the kernel runs: readers (map_lookup, from a panic or an NMI) walk
// them without a lock. Software marks in entries tell what they are for: PTE_STACK on a stack's
// pages, PTE_GUARD_... in the empty entry of a guard page.
//
// A CPU may keep what it once read from a table in its TLB. So taking a mapping away is three
// steps: clear the entry, flush here, have the others flush (map_shootdown), and only then may the
// memory behind it be reused. Adding one needs none of that: a CPU does not keep entries that are
// not present (Intel SDM vol. 3, 4.10.2.3).
//
// Context: map_lock, interrupts off, so map_range may be called from anywhere; map_clear waits for
// other CPUs: thread or boot.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/types.h>
#include <contract/boot_info.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/sections.h>
#include <core/spinlock.h>
#include <x86/cpuid.h>
#include <x86/msr.h>
#include <x86/pte.h>
#include <mm/map.h>
#include <mm/page.h>

#include "internal.h"

enum {
    MAP_LEVELS = 4,
    MAP_BATCH = 512,          // entries written at a time: interrupts are off meanwhile
    MAP_FLUSH_MAX_PAGES = 32, // beyond that, flushing everything is cheaper than page by page
};

#define EFER_NXE BIT64(11) // Intel SDM vol. 4, IA32_EFER
#define CR4_PGE  BIT64(7)

static DEFINE_SPINLOCK(map_lock);
static phys_t map_root_phys; // I
static uint64_t map_nx;      // I: PTE_NX, 0 on a CPU without it
static enum gfp map_table_flags =
    GFP_ATOMIC | GFP_ZERO | GFP_DMA32;        // I: the boot tables reach 4 GiB
static uint64_t map_table_count;              // L
static uint64_t map_direct_bytes[MAP_LEVELS]; // I: [1] by 4 KiB, [2] by 2 MiB, [3] by 1 GiB pages

void (*map_shootdown)(uintptr_t start, uintptr_t end);
uint64_t map_shootdown_count;

extern char boot_stack_guard[]; // boot/start.S

static unsigned map_shift(unsigned level)
{
    return PAGE_SHIFT + 9 * (level - 1);
}

static bool map_is_leaf(uint64_t entry, unsigned level)
{
    return level == 1 || (entry & PTE_PS) != 0;
}

// The table's entry for an address at `level`, or at the level where the way ends (a large page, or
// nothing). *level tells.
static uint64_t *map_walk(uintptr_t virt, unsigned *level)
{
    uint64_t *table = phys_to_virt(map_root_phys);

    for (unsigned at = MAP_LEVELS;; at--) {
        uint64_t *entry = &table[virt >> map_shift(at) & 511];
        uint64_t value = READ_ONCE(*entry);

        if (at == *level || (value & PTE_P) == 0 || map_is_leaf(value, at)) {
            *level = at;
            return entry;
        }
        table = phys_to_virt(value & PTE_ADDRESS);
    }
}

// As map_walk, but makes the tables that lack. NULL when there is no memory, or a large page is in
// the way.
static uint64_t *map_make_entry_locked(uintptr_t virt, unsigned level)
{
    for (;;) {
        unsigned at = level;
        uint64_t *entry = map_walk(virt, &at);

        if (at == level) {
            return entry;
        }
        if (*entry & PTE_P) {
            return NULL;
        }
        void *table = alloc_page(map_table_flags);
        if (table == NULL) {
            return NULL;
        }
        map_table_count++;
        // The leaf decides what is allowed: on the way to it all is.
        WRITE_ONCE(*entry, virt_to_phys(table) | PTE_P | PTE_W);
    }
}

// The largest page that fits at virt and phys.
static unsigned map_best_level(uintptr_t virt, phys_t phys, size_t size)
{
    for (unsigned level = 3; level > 1; level--) {
        size_t page = 1ull << map_shift(level);

        if (level == 3 && !cpu_has(FEATURE_PAGE1GB)) {
            continue;
        }
        if (size >= page && IS_ALIGNED(virt | phys, page)) {
            return level;
        }
    }
    return 1;
}

// Maps one page, as large as can be. Returns its level, 0 when there is no memory or something is
// mapped there.
static unsigned map_one_locked(uintptr_t virt, phys_t phys, size_t size, uint64_t flags)
{
    for (unsigned level = map_best_level(virt, phys, size); level > 0; level--) {
        uint64_t *entry = map_make_entry_locked(virt, level);

        if (entry == NULL) {
            return 0;
        }
        if (level > 1 && (*entry & PTE_P)) {
            continue; // a table of smaller pages, left from an earlier area
        }
        if (*entry & PTE_P) {
            return 0;
        }
        WRITE_ONCE(*entry, phys | flags | PTE_P | (level > 1 ? PTE_PS : 0));
        return level;
    }
    return 0;
}

int map_range(uintptr_t virt, phys_t phys, size_t size, uint64_t flags)
{
    flags &= map_nx | ~PTE_NX;
    while (size > 0) {
        unsigned long irq;
        unsigned level = 1;

        spin_lock_irqsave(&map_lock, irq);
        for (unsigned n = 0; n < MAP_BATCH && size > 0 && level > 0; n++) {
            level = map_one_locked(virt, phys, size, flags);
            size_t page = level > 0 ? 1ull << map_shift(level) : 0;
            virt += page;
            phys += page;
            size -= page;
        }
        spin_unlock_irqrestore(&map_lock, irq);
        if (level == 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

int map_guard(uintptr_t virt, uint64_t mark)
{
    unsigned long irq;

    spin_lock_irqsave(&map_lock, irq);
    uint64_t *entry = map_make_entry_locked(virt, 1);
    if (entry != NULL) {
        WRITE_ONCE(*entry, mark & PTE_GUARD_MASK);
    }
    spin_unlock_irqrestore(&map_lock, irq);
    return entry != NULL ? 0 : -ENOMEM;
}

// ---- flushing -----------------------------------------------------------------------------------

static void map_flush_all(void)
{
    uint64_t cr4 = read_cr4();

    if (cr4 & CR4_PGE) { // global pages survive a load of CR3, not a change of this bit
        write_cr4(cr4 & ~CR4_PGE);
        write_cr4(cr4);
    } else {
        write_cr3(read_cr3());
    }
}

void map_flush_local(uintptr_t start, uintptr_t end)
{
    unsigned long irq = local_irq_save();

    if (end - start > (uintptr_t)MAP_FLUSH_MAX_PAGES * PAGE_SIZE) {
        map_flush_all();
    } else {
        for (uintptr_t at = start; at < end; at += PAGE_SIZE) {
            __asm__ volatile("invlpg (%0)" ::"r"(at) : "memory");
        }
    }
    local_irq_restore(irq);
}

// Here and on all other CPUs; this thread stays where it is meanwhile, or "here" would change its
// meaning between the two.
static void map_flush(uintptr_t start, uintptr_t end)
{
    preempt_disable();
    map_flush_local(start, end);
    if (map_shootdown != NULL) {
        __atomic_fetch_add(&map_shootdown_count, 1, __ATOMIC_RELAXED);
        map_shootdown(start, end);
    }
    preempt_enable();
}

void map_clear(uintptr_t virt, size_t size)
{
    uintptr_t end = virt + size;
    unsigned long irq;

    spin_lock_irqsave(&map_lock, irq);
    for (uintptr_t at = virt; at < end;) {
        unsigned level = 1;
        uint64_t *entry = map_walk(at, &level);

        if ((*entry & PTE_P) || level == 1) {
            WRITE_ONCE(*entry, 0);
        }
        at = ALIGN_DOWN(at, 1ull << map_shift(level)) + (1ull << map_shift(level));
    }
    spin_unlock_irqrestore(&map_lock, irq);
    map_flush(virt, end);
}

// ---- boot ---------------------------------------------------------------------------------------

// Boot has no answer to a lack of page tables.
static void map_must(uintptr_t virt, phys_t phys, size_t size, uint64_t flags)
{
    if (map_range(virt, phys, size, flags | PTE_G) != 0) {
        panic("no memory for page tables: give the machine more RAM");
    }
}

static void map_direct(phys_t start, phys_t end, uint64_t flags)
{
    if (start >= end) {
        return;
    }
    map_must(PHYS_BASE + start, start, end - start, flags);
    for (phys_t at = start; at < end;) {
        unsigned level;

        map_lookup(PHYS_BASE + at, &level);
        map_direct_bytes[level] += 1ull << map_shift(level);
        at += 1ull << map_shift(level);
    }
}

// RAM, with the image's text and constants read-only here too: the way round W^X through the second
// address is closed.
static void map_all_direct(void)
{
    phys_t fixed_start = (uintptr_t)text_start - KERNEL_BASE;
    phys_t fixed_end = (uintptr_t)rodata_end - KERNEL_BASE;
    phys_t start, end;

    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        map_direct(start, min(end, max(start, fixed_start)), PTE_W | PTE_NX);
        map_direct(max(start, fixed_start), min(end, fixed_end), PTE_NX);
        map_direct(max(start, fixed_end), end, PTE_W | PTE_NX);
    }
}

static void map_image_part(const char *start, const char *end, uint64_t flags)
{
    uintptr_t at = (uintptr_t)start, stop = (uintptr_t)end;

    assert(IS_ALIGNED(at, PAGE_SIZE) && IS_ALIGNED(stop, PAGE_SIZE));
    if (at < stop) {
        map_must(at, at - KERNEL_BASE, stop - at, flags);
    }
}

static void map_image(void)
{
    map_image_part(text_start, text_end, 0);
    map_image_part(rodata_start, rodata_end, PTE_NX);
    map_image_part(rodata_end, boot_stack_guard, PTE_W | PTE_NX);
    if (map_guard((uintptr_t)boot_stack_guard, PTE_GUARD_BOOT) != 0) {
        panic("no memory for page tables: give the machine more RAM");
    }
    map_image_part(boot_stack_guard + PAGE_SIZE, kernel_end, PTE_W | PTE_NX);
}

void map_init(const struct boot_info *boot)
{
    void *root = alloc_page(map_table_flags);

    (void)boot;
    if (root == NULL) {
        panic("no memory below 4 GiB for the page tables");
    }
    map_table_count = 1;
    map_root_phys = virt_to_phys(root);
    map_nx = cpu_has(FEATURE_NX) ? PTE_NX : 0;
    map_all_direct();
    map_image();
    map_load();
    map_table_flags = GFP_ATOMIC | GFP_ZERO;
}

// Each bit that the tables use must be legal before they are loaded: NX, and the PAT's
// write-combining entry.
void map_load(void)
{
    if (map_nx != 0) {
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    }
    if (cpu_has(FEATURE_PAT)) {
        wrmsr(MSR_PAT, PAT_VALUE);
    }
    write_cr3(map_root_phys);
    map_flush_all();
}

phys_t map_root(void)
{
    return map_root_phys;
}

// ---- looking at it ------------------------------------------------------------------------------

uint64_t map_lookup(uintptr_t address, unsigned *level)
{
    unsigned at = 1;
    uint64_t entry = READ_ONCE(*map_walk(address, &at));

    *level = at;
    return entry & PTE_P ? entry : 0;
}

static bool map_is_canonical(uintptr_t address)
{
    return (uintptr_t)((intptr_t)(address << 16) >> 16) == address;
}

const char *map_guard_name(uintptr_t address)
{
    unsigned level = 1;

    if (map_root_phys == 0 || !map_is_canonical(address)) {
        return NULL;
    }
    uint64_t entry = READ_ONCE(*map_walk(address, &level));
    if ((entry & PTE_P) || level != 1) {
        return NULL;
    }
    switch (entry & PTE_GUARD_MASK) {
    case PTE_GUARD_STACK:
        return "guard page below a kernel stack";
    case PTE_GUARD_BOOT:
        return "guard page below the boot stack";
    case PTE_GUARD_AREA:
        return "guard page below a vmalloc area";
    default:
        return NULL;
    }
}

bool map_is_stack(uintptr_t address, size_t size)
{
    extern char boot_stack_top[];

    if (size == 0 || address + size < address || size > KERNEL_STACK_SIZE) {
        return false;
    }
    if (address >= (uintptr_t)boot_stack_guard + PAGE_SIZE &&
        address + size <= (uintptr_t)boot_stack_top) {
        return true;
    }
    if (map_root_phys == 0 || address < VMAP_BASE || address + size > VMAP_BASE + VMAP_SIZE) {
        return false;
    }
    for (uintptr_t at = ALIGN_DOWN(address, PAGE_SIZE); at < address + size; at += PAGE_SIZE) {
        unsigned level;

        if ((map_lookup(at, &level) & PTE_STACK) == 0) {
            return false;
        }
    }
    return true;
}

void map_stats(struct map_stats *stats)
{
    stats->table_bytes = READ_ONCE(map_table_count) * PAGE_SIZE;
    for (unsigned i = 0; i < 3; i++) {
        stats->direct_bytes[i] = map_direct_bytes[i + 1];
    }
}
