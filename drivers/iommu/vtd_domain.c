// A domain: one device's own view of memory, made of the same kind of tables that a CPU's pages
// have, only that they translate what the device puts on the bus.
//
//   bus address  | 38..30 | 29..21 | 20..12 | 11..0 |
//                    |        |        |        +-- offset in the page: not translated
//      root ---------+        |        |
//        -> table ------------+        |
//             -> table ----------------+-> page of memory, may be read / written
//
// Which bus addresses are taken is a bitmap, one bit a page, searched from where the last search
// ended: addresses come round late, so a device that uses one after its unmapping meets a hole, not
// somebody else's buffer. A table page, once there, stays until the domain goes.
//
// Unmapping takes the entries away, but the unit may remember them. Strict: it is told at once, and
// has forgotten when the unmapping returns. Lazy: the range waits with others for one order to
// forget the whole domain; until then its addresses are not given out again, and the device could
// still reach what it had: that is the price of the speed.
//
// VT-d specification rev. 3.3, 3.7 and 9.8. Context: any; the domain's lock, interrupts off; then
// the unit's. Previous: vtd_unit.c. Next: vtd_fault.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "vtd.h"

enum {
    DOMAIN_PAGES = (VTD_END_ADDRESS - VTD_FIRST_ADDRESS) >> PAGE_SHIFT,
    DOMAIN_WORDS = (DOMAIN_PAGES + 63) / 64,
    DOMAIN_NONE = -1u,
};

struct vtd_domain *vtd_domain_create(struct vtd_unit *unit, uint16_t id)
{
    struct vtd_domain *domain = kzalloc(sizeof(*domain), GFP_ATOMIC);

    if (domain == NULL) {
        return NULL;
    }
    spin_lock_init(&domain->lock, "dmar domain");
    domain->unit = unit;
    domain->id = id;
    domain->root = alloc_page(GFP_ATOMIC | GFP_ZERO);
    domain->used = kzalloc(DOMAIN_WORDS * sizeof(uint64_t), GFP_ATOMIC);
    domain->tables = 1;
    if (domain->root == NULL || domain->used == NULL) {
        if (domain->root != NULL) {
            free_page(domain->root);
        }
        kfree(domain->used);
        kfree(domain);
        return NULL;
    }
    return domain;
}

// ---- which addresses are taken ------------------------------------------------------------------

static bool domain_is_used(const struct vtd_domain *domain, unsigned page)
{
    return (domain->used[page / 64] >> (page % 64) & 1) != 0;
}

static void domain_mark(struct vtd_domain *domain, unsigned first, unsigned count, bool used)
{
    for (unsigned page = first; page < first + count; page++) {
        uint64_t bit = 1ull << (page % 64);
        domain->used[page / 64] =
            used ? domain->used[page / 64] | bit : domain->used[page / 64] & ~bit;
    }
}

// `count` free pages in a row within [from, end).
static unsigned domain_search(const struct vtd_domain *domain, unsigned from, unsigned end,
                              unsigned count)
{
    unsigned run = 0;

    for (unsigned page = from; page < end; page++) {
        if (run == 0 && page % 64 == 0 && domain->used[page / 64] == UINT64_MAX) {
            page += 63; // a full word
            continue;
        }
        run = domain_is_used(domain, page) ? 0 : run + 1;
        if (run == count) {
            return page + 1 - count;
        }
    }
    return DOMAIN_NONE;
}

static unsigned domain_take_locked(struct vtd_domain *domain, unsigned count, uint64_t limit)
{
    if (limit < VTD_FIRST_ADDRESS) {
        return DOMAIN_NONE;
    }
    uint64_t reach = (limit - VTD_FIRST_ADDRESS + 1) >> PAGE_SHIFT; // whole pages below the limit
    unsigned end = (unsigned)min(reach, (uint64_t)DOMAIN_PAGES);
    unsigned from = domain->cursor < end ? domain->cursor : 0;
    unsigned first = domain_search(domain, from, end, count);

    if (first == DOMAIN_NONE && from > 0) {
        first = domain_search(domain, 0, end, count);
    }
    if (first != DOMAIN_NONE) {
        domain_mark(domain, first, count, true);
        domain->cursor = first + count;
    }
    return first;
}

static uint64_t domain_address(unsigned page)
{
    return VTD_FIRST_ADDRESS + ((uint64_t)page << PAGE_SHIFT);
}

// ---- tables -------------------------------------------------------------------------------------

// The entry that translates a bus address; NULL: a table is missing, and may not or cannot be made.
static uint64_t *domain_entry_locked(struct vtd_domain *domain, uint64_t bus, bool make)
{
    uint64_t *table = domain->root;

    for (unsigned level = domain->unit->levels; level > 1; level--) {
        uint64_t *entry = &table[bus >> (PAGE_SHIFT + 9 * (level - 1)) & 511];

        if (*entry == 0) {
            uint64_t *lower = make ? alloc_page(GFP_ATOMIC | GFP_ZERO) : NULL;
            if (lower == NULL) {
                return NULL;
            }
            domain->tables++;
            WRITE_ONCE(*entry, virt_to_phys(lower) | VTD_PTE_READ | VTD_PTE_WRITE);
        }
        table = phys_to_virt(*entry & VTD_PTE_ADDRESS);
    }
    return &table[bus >> PAGE_SHIFT & 511];
}

static void domain_clear_locked(struct vtd_domain *domain, uint64_t bus, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t *entry = domain_entry_locked(domain, bus + ((uint64_t)i << PAGE_SHIFT), false);

        if (entry != NULL && *entry != 0) {
            WRITE_ONCE(*entry, 0);
            domain->pages--;
        }
    }
}

static int domain_fill_locked(struct vtd_domain *domain, uint64_t bus, uint64_t phys,
                              unsigned count, uint64_t bits)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t offset = (uint64_t)i << PAGE_SHIFT;
        uint64_t *entry = domain_entry_locked(domain, bus + offset, true);

        if (entry == NULL) {
            domain_clear_locked(domain, bus, i);
            return -ENOMEM;
        }
        WRITE_ONCE(*entry, (phys + offset) | bits);
        domain->pages++;
    }
    return 0;
}

// ---- forgetting ---------------------------------------------------------------------------------

// Single pages where the unit can and they are few; else the whole domain.
static void domain_forget(struct vtd_domain *domain, uint64_t bus, unsigned count)
{
    struct vtd_unit *unit = domain->unit;
    struct vtd_descriptor work = {
        VTD_INV_IOTLB_DOMAIN | VTD_INV_IOTLB_DRAIN | VTD_INV_DOMAIN(domain->id), 0};
    unsigned order = 0;

    // The range of the descriptor is 2^order pages, aligned to its size.
    while (count > 0 && bus >> (PAGE_SHIFT + order) !=
                            (bus + ((uint64_t)(count - 1) << PAGE_SHIFT)) >> (PAGE_SHIFT + order)) {
        order++;
    }
    if (count > 0 && (unit->cap & VTD_CAP_PSI) != 0 && order <= VTD_CAP_MAMV(unit->cap)) {
        work.low = VTD_INV_IOTLB_PAGES | VTD_INV_IOTLB_DRAIN | VTD_INV_DOMAIN(domain->id);
        work.high = (bus & ~((1ull << (PAGE_SHIFT + order)) - 1)) | order;
    }
    vtd_unit_invalidate(unit, &work, 1);
}

// A unit that caches what is not there (an emulated one, in caching mode), or one that must flush
// its write buffers, is told of new entries as well.
static void domain_announce(struct vtd_domain *domain, uint64_t bus, unsigned count)
{
    if ((domain->unit->cap & (VTD_CAP_CM | VTD_CAP_RWBF)) != 0) {
        domain_forget(domain, bus, count);
    }
}

static void domain_flush_lazy_locked(struct vtd_domain *domain)
{
    if (domain->lazy_count == 0) {
        return;
    }
    domain_forget(domain, 0, 0);
    for (unsigned i = 0; i < domain->lazy_count; i++) {
        domain_mark(domain, domain->lazy[i].first, domain->lazy[i].count, false);
    }
    domain->lazy_count = 0;
}

void vtd_domain_flush_lazy(struct vtd_domain *domain)
{
    unsigned long flags;

    spin_lock_irqsave(&domain->lock, flags);
    domain_flush_lazy_locked(domain);
    spin_unlock_irqrestore(&domain->lock, flags);
}

// ---- mapping ------------------------------------------------------------------------------------

static unsigned domain_page_count(uint64_t address, uint64_t size)
{
    return (unsigned)((address % PAGE_SIZE + size + PAGE_SIZE - 1) >> PAGE_SHIFT);
}

uint64_t vtd_domain_map(struct vtd_domain *domain, uint64_t phys, uint64_t size, uint64_t bits,
                        uint64_t limit)
{
    unsigned count = domain_page_count(phys, size);
    uint64_t bus = UINT64_MAX;
    unsigned long flags;

    spin_lock_irqsave(&domain->lock, flags);
    unsigned first = domain_take_locked(domain, count, limit);
    if (first == DOMAIN_NONE && domain->lazy_count > 0) {
        domain_flush_lazy_locked(domain);
        first = domain_take_locked(domain, count, limit);
    }
    if (first != DOMAIN_NONE) {
        bus = domain_address(first);
        if (domain_fill_locked(domain, bus, phys & ~(PAGE_SIZE - 1ull), count, bits) != 0) {
            domain_mark(domain, first, count, false);
            bus = UINT64_MAX;
        }
    }
    domain->maps++;
    spin_unlock_irqrestore(&domain->lock, flags);
    if (bus == UINT64_MAX) {
        return bus;
    }
    domain_announce(domain, bus, count);
    return bus + phys % PAGE_SIZE;
}

int vtd_domain_map_same(struct vtd_domain *domain, uint64_t start, uint64_t end)
{
    uint64_t size = end - start + 1;
    unsigned long flags;

    if (size == 0 || end >= 1ull << (PAGE_SHIFT + 9 * domain->unit->levels)) {
        return -ENOMEM;
    }
    unsigned count = domain_page_count(start, size);
    spin_lock_irqsave(&domain->lock, flags);
    int err = domain_fill_locked(domain, start & ~(PAGE_SIZE - 1ull), start & ~(PAGE_SIZE - 1ull),
                                 count, VTD_PTE_READ | VTD_PTE_WRITE);
    for (unsigned page = 0; err == 0 && page < DOMAIN_PAGES; page++) {
        uint64_t address = domain_address(page);
        if (address + PAGE_SIZE > start && address <= end) {
            domain_mark(domain, page, 1, true); // never given out
        }
    }
    spin_unlock_irqrestore(&domain->lock, flags);
    return err;
}

// Only what this domain can have given out.
static bool domain_gave(uint64_t bus, unsigned count)
{
    return bus >= VTD_FIRST_ADDRESS && bus < VTD_END_ADDRESS &&
           count <= (VTD_END_ADDRESS - bus + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

void vtd_domain_unmap(struct vtd_domain *domain, uint64_t bus, uint64_t size, bool strict)
{
    unsigned count = domain_page_count(bus, size);
    unsigned long flags;

    bus &= ~(PAGE_SIZE - 1ull);
    if (!domain_gave(bus, count)) {
        return;
    }
    unsigned first = (unsigned)((bus - VTD_FIRST_ADDRESS) >> PAGE_SHIFT);
    spin_lock_irqsave(&domain->lock, flags);
    domain_clear_locked(domain, bus, count);
    domain->unmaps++;
    if (!strict) {
        domain->lazy[domain->lazy_count++] = (struct vtd_range){first, count};
        if (domain->lazy_count == VTD_LAZY) {
            domain_flush_lazy_locked(domain);
        }
    }
    spin_unlock_irqrestore(&domain->lock, flags);
    if (strict) {
        domain_forget(domain, bus, count);
        spin_lock_irqsave(&domain->lock, flags);
        domain_mark(domain, first, count, false); // only now may it be given out again
        spin_unlock_irqrestore(&domain->lock, flags);
    }
}

uint64_t vtd_domain_translate(struct vtd_domain *domain, uint64_t bus)
{
    uint64_t phys = UINT64_MAX;
    unsigned long flags;

    if (bus >> (PAGE_SHIFT + 9 * domain->unit->levels) != 0) {
        return phys;
    }
    spin_lock_irqsave(&domain->lock, flags);
    const uint64_t *entry = domain_entry_locked(domain, bus, false);
    if (entry != NULL && *entry != 0) {
        phys = (*entry & VTD_PTE_ADDRESS) | bus % PAGE_SIZE;
    }
    spin_unlock_irqrestore(&domain->lock, flags);
    return phys;
}
