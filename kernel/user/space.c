// Address spaces: four levels of tables, of which the lower half is a program's own and the upper
// half the kernel's.
//
//   root   [0] ──> ... ──> pages of the program      made by space_map, freed by space_free
//          [1..255] empty, but for the stack's
//          [256..511] ──> the kernel's tables        copied entries, never freed here
//
// The kernel's half needs to be copied only once: its top table has all entries that it will ever
// have before the first thread runs (kernel/mm/map.c: RAM, the image, and one entry for all of the
// vmap area).
//
// The root in use is the thread's, so it is loaded by the switch of threads (kernel/sched/sched.c).
// Threads of the kernel run on the kernel's own tables: so when a program's thread has left its
// tables for good, no CPU has them in CR3, and no TLB holds anything of them, because none of their
// entries is global. That is why nothing is flushed here.
//
// Every page is either writable or executable. Intel SDM vol. 3, 4.5, 4.10. Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <x86/cpuid.h>
#include <x86/msr.h>
#include <x86/segments.h>
#include <mm/map.h>
#include <mm/page.h>
#include <sched/thread.h>
#include <user/space.h>

enum { SPACE_LEVELS = 4, SPACE_ENTRIES = 512 };

static uint64_t space_pages; // A

static void *space_page(struct space *space)
{
    void *page = alloc_page(GFP_KERNEL | GFP_ZERO);

    if (page != NULL) {
        space->pages++;
        __atomic_fetch_add(&space_pages, 1, __ATOMIC_RELAXED);
    }
    return page;
}

static void space_page_free(struct space *space, void *page)
{
    free_page(page);
    space->pages--;
    __atomic_fetch_sub(&space_pages, 1, __ATOMIC_RELAXED);
}

uint64_t space_page_count(void)
{
    return __atomic_load_n(&space_pages, __ATOMIC_RELAXED);
}

int space_init(struct space *space)
{
    might_sleep();
    const uint64_t *kernel = phys_to_virt(map_root());

    *space = (struct space){0};
    space->root = space_page(space);
    if (space->root == NULL) {
        return -ENOMEM;
    }
    memcpy(&space->root[SPACE_ENTRIES / 2], &kernel[SPACE_ENTRIES / 2],
           SPACE_ENTRIES / 2 * sizeof(uint64_t));
    return 0;
}

bool space_holds(uintptr_t address, size_t size)
{
    return address >= SPACE_BEGIN && address <= SPACE_END && size <= SPACE_END - address;
}

// The lowest table's entry for an address, with the tables on the way made; NULL: no memory.
static uint64_t *space_make_entry(struct space *space, uintptr_t address)
{
    uint64_t *table = space->root;

    for (unsigned level = SPACE_LEVELS; level > 1; level--) {
        uint64_t *entry = &table[address >> (PAGE_SHIFT + 9 * (level - 1)) & 511];

        if ((*entry & PTE_P) == 0) {
            void *next = space_page(space);

            if (next == NULL) {
                return NULL;
            }
            *entry = virt_to_phys(next) | PTE_P | PTE_W | PTE_U; // the leaf decides
        }
        table = phys_to_virt(*entry & PTE_ADDRESS);
    }
    return &table[address >> PAGE_SHIFT & 511];
}

void *space_map(struct space *space, uintptr_t address, uint64_t flags)
{
    might_sleep();
    uint64_t allowed = PTE_W | (cpu_has(FEATURE_NX) ? PTE_NX : 0);
    uint64_t *entry;
    void *page;

    if (!IS_ALIGNED(address, PAGE_SIZE) || !space_holds(address, PAGE_SIZE) ||
        (flags & (PTE_W | PTE_NX)) == PTE_W) {
        return NULL;
    }
    entry = space_make_entry(space, address);
    if (entry == NULL || (*entry & PTE_P)) {
        return NULL;
    }
    page = space_page(space);
    if (page != NULL) {
        *entry = virt_to_phys(page) | PTE_P | PTE_U | (flags & allowed);
    }
    return page;
}

// All that a table leads to, then the table; `level` 0 is a page. Four deep, no deeper.
static void space_free_level(struct space *space, uint64_t *table, unsigned level)
{
    unsigned entries = level == SPACE_LEVELS ? SPACE_ENTRIES / 2 : level == 0 ? 0 : SPACE_ENTRIES;

    for (unsigned n = 0; n < entries; n++) {
        if (table[n] & PTE_P) {
            space_free_level(space, phys_to_virt(table[n] & PTE_ADDRESS), level - 1);
        }
    }
    space_page_free(space, table);
}

void space_free(struct space *space)
{
    might_sleep();
    if (space->root != NULL) {
        space_free_level(space, space->root, SPACE_LEVELS);
        space->root = NULL;
    }
    WARN_ON(space->pages != 0);
}

void space_enter(const struct space *space)
{
    might_sleep();
    unsigned long flags = local_irq_save();

    current->cr3 = space != NULL ? virt_to_phys(space->root) : 0;
    write_cr3(space != NULL ? current->cr3 : map_root());
    gdt_set_kernel_stack(current->stack + KERNEL_STACK_SIZE); // the switch does it from now on
    local_irq_restore(flags);
}
