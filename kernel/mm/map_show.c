// Shows the page tables: /proc/pagetables prints what is mapped, map_audit proves that nothing is
// writable and executable.
//
// Both walk all tables, which never go away, without a lock: an area that comes or goes meanwhile
// may be seen in part.
//
// Context: thread; map_audit any.
#include <lib/text.h>
#include <lib/types.h>
#include <contract/proc_file.h>
#include <core/log.h>
#include <x86/pte.h>
#include <mm/map.h>
#include <mm/page.h>

#include "internal.h"

enum { TABLE_ENTRIES = 512, TABLE_LEVELS = 4 };

#define PAGE_RIGHTS (PTE_W | PTE_U | PTE_PWT | PTE_PCD | PTE_G | PTE_NX | PTE_STACK)

// One page as the CPU sees it: rights are what all levels on the way to it allow.
struct leaf {
    uintptr_t virt;
    unsigned level;
    uint64_t flags; // PAGE_RIGHTS of the leaf, W and NX of the whole way
};

struct visitor {
    void (*leaf)(struct visitor *v, const struct leaf *leaf);
    struct text *text; // /proc/pagetables
    struct leaf run;   // of equal pages that began here
    uintptr_t run_end; // 0: none
    unsigned violations;
};

static uint64_t leaf_size(unsigned level)
{
    return 1ull << (PAGE_SHIFT + 9 * (level - 1));
}

static void table_visit(struct visitor *v, phys_t table_phys, unsigned level, uintptr_t base,
                        uint64_t way)
{
    const uint64_t *table = phys_to_virt(table_phys & PTE_ADDRESS);

    for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
        uint64_t entry = READ_ONCE(table[i]);
        uintptr_t virt = base + i * leaf_size(level);

        if (level == TABLE_LEVELS && i >= TABLE_ENTRIES / 2) {
            virt |= 0xffff000000000000; // the upper half is sign-extended
        }
        if ((entry & PTE_P) == 0) {
            continue;
        }
        uint64_t both = (way & entry & PTE_W) | ((way | entry) & PTE_NX);
        if (level > 1 && (entry & PTE_PS) == 0) {
            table_visit(v, entry, level - 1, virt, both);
        } else {
            struct leaf leaf = {virt, level, (entry & PAGE_RIGHTS & ~(PTE_W | PTE_NX)) | both};

            v->leaf(v, &leaf);
        }
    }
}

// ---- the audit ----------------------------------------------------------------------------------

static void audit_leaf(struct visitor *v, const struct leaf *leaf)
{
    if ((leaf->flags & PTE_W) && (leaf->flags & PTE_NX) == 0) {
        v->violations++;
        pr_err("map_audit: page %#018lx of %llu KiB is writable and executable",
               (unsigned long)leaf->virt, (unsigned long long)leaf_size(leaf->level) >> 10);
    }
}

unsigned map_audit(void)
{
    struct visitor v = {.leaf = audit_leaf};

    table_visit(&v, map_root(), TABLE_LEVELS, 0, PTE_W);
    return v.violations;
}

// ---- /proc/pagetables ---------------------------------------------------------------------------

static const char *region_name(uintptr_t virt)
{
    return virt >= KERNEL_BASE ? "image"
           : virt >= VMAP_BASE ? "area"
           : virt >= PHYS_BASE ? "direct"
                               : "low";
}

static const char *cache_name(uint64_t flags)
{
    switch (flags & (PTE_PCD | PTE_PWT)) {
    case PTE_UC:
        return "uncached";
    case PTE_WC:
        return "write-combining";
    case PTE_PCD:
        return "uncached-";
    default:
        return "write-back";
    }
}

static void show_run(struct visitor *v)
{
    static const char *const sizes[] = {"4K", "2M", "1G"};
    const struct leaf *run = &v->run;

    if (v->run_end == 0) {
        return;
    }
    text_printf(v->text, "%016lx-%016lx %10llu kB %s %c%c%c%c %-15s %s%s\n",
                (unsigned long)run->virt, (unsigned long)(v->run_end - 1),
                (unsigned long long)(v->run_end - run->virt) >> 10, sizes[run->level - 1], 'r',
                run->flags & PTE_W ? 'w' : '-', run->flags & PTE_NX ? '-' : 'x',
                run->flags & PTE_G ? 'g' : '-', cache_name(run->flags), region_name(run->virt),
                run->flags & PTE_STACK ? " (stack)" : "");
}

// Joins neighbours that differ in nothing but the address.
static void show_leaf(struct visitor *v, const struct leaf *leaf)
{
    if (leaf->virt != v->run_end || leaf->level != v->run.level || leaf->flags != v->run.flags) {
        show_run(v);
        v->run = *leaf;
    }
    v->run_end = leaf->virt + leaf_size(leaf->level);
}

static void map_show_pagetables(struct text *t, unsigned long index)
{
    struct visitor v = {.leaf = show_leaf, .text = t};

    (void)index;
    table_visit(&v, map_root(), TABLE_LEVELS, 0, PTE_W);
    show_run(&v);
}
PROC_FILE("pagetables", map_show_pagetables);
