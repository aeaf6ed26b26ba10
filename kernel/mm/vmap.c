// Areas of virtual memory made at run time: device registers, firmware tables, kernel stacks, large
// buffers.
//
//   VMAP_BASE  |guard|registers|guard|stack.....|    free    |guard|vmalloc...| ... | large pages
//              ^ area 1        ^ area 2         ^ first fit  ^ area 3             ^ the middle
//
// Each area begins with a page that is never mapped. For a stack, which grows downwards, it is the
// guard page; for the others it stops what runs over the end of the area before.
//
// Areas are a list sorted by address, searched first-fit: there are a few dozen, and a few hundred
// on a machine with hundreds of CPUs, each of which has stacks.
//
// Context: thread or boot, after slab_init. Unmapping waits for the other CPUs to flush.
#include <lib/errno.h>
#include <lib/list.h>
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/proc_file.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <x86/cpuid.h>
#include <x86/pte.h>
#include <mm/map.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "internal.h"

enum vmap_kind { VMAP_DEVICE, VMAP_PAGES, VMAP_STACK, VMAP_DEMAND };

struct vmap_area {
    struct list_head link; // L of vmap_lock
    uintptr_t start;       // I: of the guard page
    size_t size;           // I: behind the guard page
    enum vmap_kind kind;   // I
    phys_t phys;           // I: VMAP_DEVICE: what is mapped
    const void *caller;    // I: code address
};

static DEFINE_SPINLOCK(vmap_lock);
static LIST_HEAD(vmap_areas);      // L: by address
static struct vmap_stats vmap_sum; // L

static uintptr_t vmap_address(const struct vmap_area *area)
{
    return area->start + PAGE_SIZE;
}

// Finds `size` bytes behind a guard page at a multiple of align in [from, to). Returns the first, 0
// when there is no such room, and in *next the list entry that the new area goes before.
static uintptr_t vmap_fit_locked(uintptr_t from, uintptr_t to, size_t size, size_t align,
                                 struct list_head **next)
{
    struct vmap_area *area;

    *next = &vmap_areas;
    list_for_each_entry (area, &vmap_areas, link) {
        uintptr_t virt = ALIGN_UP(from + PAGE_SIZE, align);

        if (virt <= area->start && area->start - virt >= size) {
            *next = &area->link;
            break;
        }
        from = max(from, vmap_address(area) + area->size);
    }
    uintptr_t virt = ALIGN_UP(from + PAGE_SIZE, align);
    return virt <= to && to - virt >= size ? virt : 0;
}

// Takes room for `size` bytes. Areas of large pages have the upper half for themselves: where small
// pages once were, a table for them stays, and no large page fits any more. NULL: no memory, or no
// room.
static struct vmap_area *vmap_take(size_t size, size_t align, enum vmap_kind kind,
                                   const void *caller)
{
    const uintptr_t middle = VMAP_BASE + VMAP_SIZE / 2;
    struct vmap_area *area = kmalloc(sizeof(*area), GFP_ATOMIC);
    struct list_head *next;
    unsigned long irq;

    if (area == NULL) {
        return NULL;
    }
    spin_lock_irqsave(&vmap_lock, irq);
    uintptr_t virt = align > PAGE_SIZE
                         ? vmap_fit_locked(middle, VMAP_BASE + VMAP_SIZE, size, align, &next)
                         : vmap_fit_locked(VMAP_BASE, middle, size, align, &next);
    if (virt != 0) {
        *area = (struct vmap_area){
            .start = virt - PAGE_SIZE, .size = size, .kind = kind, .caller = caller};
        list_add_tail(&area->link, next);
        vmap_sum.used_bytes += size + PAGE_SIZE;
    }
    spin_unlock_irqrestore(&vmap_lock, irq);
    if (virt == 0) {
        kfree(area);
        return NULL;
    }
    return area;
}

// Gives the addresses back; nothing may be mapped there any more.
static void vmap_give(struct vmap_area *area)
{
    unsigned long irq;

    spin_lock_irqsave(&vmap_lock, irq);
    list_del(&area->link);
    vmap_sum.used_bytes -= area->size + PAGE_SIZE;
    spin_unlock_irqrestore(&vmap_lock, irq);
    kfree(area);
}

// The area whose first mapped page holds `address`; NULL, and a report, when there is none of this
// kind.
static struct vmap_area *vmap_find(uintptr_t address, enum vmap_kind kind, const char *caller)
{
    struct vmap_area *area, *found = NULL;
    unsigned long irq;

    spin_lock_irqsave(&vmap_lock, irq);
    list_for_each_entry (area, &vmap_areas, link) {
        if (vmap_address(area) == ALIGN_DOWN(address, PAGE_SIZE) && area->kind == kind) {
            found = area;
            break;
        }
    }
    spin_unlock_irqrestore(&vmap_lock, irq);
    if (found == NULL) {
        pr_err("BUG: %s(%p): no such area", caller, (void *)address);
        warn_at(__FILE__, __LINE__, "an area is unmapped that is not there");
    }
    return found;
}

// ---- device registers and firmware tables -------------------------------------------------------

static void *vmap_physical(phys_t address, size_t size, uint64_t flags, const void *caller)
{
    phys_t first = ALIGN_DOWN(address, PAGE_SIZE);
    uint64_t limit = BIT64(cpu_phys_bits());

    if (size == 0 || address >= limit || size > limit - address || size > VMAP_SIZE / 4) {
        return NULL;
    }
    size = ALIGN_UP(address - first + size, PAGE_SIZE);
    // Large windows by large pages: PCIe configuration space alone would take 512 KiB of page
    // tables.
    size_t align = size >= (2u << 20) && IS_ALIGNED(first, 2u << 20) ? 2u << 20 : PAGE_SIZE;
    struct vmap_area *area = vmap_take(size, align, VMAP_DEVICE, caller);
    if (area == NULL) {
        return NULL;
    }
    area->phys = first;
    if (map_range(vmap_address(area), first, size, flags | PTE_NX | PTE_G) != 0) {
        map_clear(vmap_address(area), size);
        vmap_give(area);
        return NULL;
    }
    return (void *)(vmap_address(area) + (address - first));
}

// Cached and uncached views of one page at once are undefined (Intel SDM vol. 3, 12.12.4), and RAM
// has a cached one.
static void *vmap_device(phys_t address, size_t size, uint64_t flags, const char *function,
                         const void *caller)
{
    if (page_overlaps_ram(address, size)) {
        pr_err("%s(%#llx, %#zx): refused, that is RAM", function, (unsigned long long)address,
               size);
        return NULL;
    }
    return vmap_physical(address, size, flags, caller);
}

void __iomem *ioremap(phys_t address, size_t size)
{
    might_sleep_or_boot();
    return vmap_device(address, size, PTE_W | PTE_UC, "ioremap", __builtin_return_address(0));
}

void __iomem *ioremap_wc(phys_t address, size_t size)
{
    might_sleep_or_boot();
    uint64_t type = cpu_has(FEATURE_PAT) ? PTE_WC : PTE_UC;

    return vmap_device(address, size, PTE_W | type, "ioremap_wc", __builtin_return_address(0));
}

void *memremap(phys_t address, size_t size)
{
    might_sleep_or_boot();
    return vmap_physical(address, size, 0, __builtin_return_address(0));
}

void iounmap(volatile void *address)
{
    might_sleep_or_boot();
    if (address == NULL) {
        return;
    }
    struct vmap_area *area = vmap_find((uintptr_t)address, VMAP_DEVICE, "iounmap");
    if (area != NULL) {
        map_clear(vmap_address(area), area->size);
        vmap_give(area);
    }
}

// ---- pages of our own: stacks and vmalloc -------------------------------------------------------

// Unmaps and frees the first `size` bytes of an area. The pages are strung together before their
// mapping goes, as only it knows them.
static void vmap_free_pages(const struct vmap_area *area, size_t size)
{
    void **chain = NULL;

    for (uintptr_t at = vmap_address(area); at < vmap_address(area) + size; at += PAGE_SIZE) {
        unsigned level;
        uint64_t entry = map_lookup(at, &level);
        void **page = phys_to_virt(entry & PTE_ADDRESS);

        if ((entry & PTE_P) == 0) {
            continue; // of a demand area: nobody touched it
        }
        *page = chain;
        chain = page;
    }
    map_clear(area->start, PAGE_SIZE + size);
    while (chain != NULL) {
        void **page = chain;

        chain = *page;
        free_page(page);
    }
}

static void vmap_count_pages(enum vmap_kind kind, size_t size, bool add)
{
    uint64_t *sum = kind == VMAP_STACK ? &vmap_sum.stack_bytes : &vmap_sum.alloc_bytes;
    unsigned long irq;

    spin_lock_irqsave(&vmap_lock, irq);
    *sum += add ? size : -size;
    spin_unlock_irqrestore(&vmap_lock, irq);
}

static void *vmap_new_pages(size_t size, enum vmap_kind kind, uint64_t flags, uint64_t guard,
                            const void *caller)
{
    struct vmap_area *area = vmap_take(size, PAGE_SIZE, kind, caller);
    size_t done = 0;

    if (area == NULL) {
        return NULL;
    }
    if (map_guard(area->start, guard) != 0) {
        vmap_give(area);
        return NULL;
    }
    for (; done < size; done += PAGE_SIZE) {
        void *page = alloc_page(GFP_KERNEL);

        if (page == NULL) {
            break;
        }
        if (map_range(vmap_address(area) + done, virt_to_phys(page), PAGE_SIZE,
                      flags | PTE_W | PTE_NX | PTE_G) != 0) {
            free_page(page);
            break;
        }
    }
    if (done < size) {
        vmap_free_pages(area, done);
        vmap_give(area);
        return NULL;
    }
    vmap_count_pages(kind, size, true);
    return (void *)vmap_address(area);
}

static void vmap_free(void *address, enum vmap_kind kind, const char *caller)
{
    struct vmap_area *area = vmap_find((uintptr_t)address, kind, caller);

    if (area != NULL) {
        vmap_count_pages(kind, area->size, false);
        vmap_free_pages(area, area->size);
        vmap_give(area);
    }
}

// Threads come and go all the time, and each unmapping interrupts every CPU. So some stacks that
// are given back stay as they are for the next thread.
enum { VMAP_KEPT_STACKS = 16 };
static void *vmap_kept_stacks[VMAP_KEPT_STACKS]; // L of vmap_lock
static unsigned vmap_kept_count;                 // L

static void *vmap_take_kept_stack(void)
{
    unsigned long irq;

    spin_lock_irqsave(&vmap_lock, irq);
    void *stack = vmap_kept_count > 0 ? vmap_kept_stacks[--vmap_kept_count] : NULL;
    spin_unlock_irqrestore(&vmap_lock, irq);
    return stack;
}

// 1 when the stack is kept, 0 when there is no room, -EEXIST when it is kept already.
static int vmap_keep_stack(void *stack)
{
    unsigned long irq;
    int kept = 0;

    spin_lock_irqsave(&vmap_lock, irq);
    for (unsigned i = 0; i < vmap_kept_count; i++) {
        kept = vmap_kept_stacks[i] == stack ? -EEXIST : kept;
    }
    if (kept == 0 && vmap_kept_count < VMAP_KEPT_STACKS) {
        vmap_kept_stacks[vmap_kept_count++] = stack;
        kept = 1;
    }
    spin_unlock_irqrestore(&vmap_lock, irq);
    return kept;
}

// A new stack is cleared. That hides what lay in its pages; and QEMU needs it: it watches pages in
// which it has seen code run, GRUB's say, and each write there stays slow, a hundredfold, until all
// of that code is overwritten, which a stack that is used at one end only never does.
void *map_stack(void)
{
    might_sleep_or_boot();
    void *stack = vmap_take_kept_stack();

    if (stack == NULL) {
        stack = vmap_new_pages(KERNEL_STACK_SIZE, VMAP_STACK, PTE_STACK, PTE_GUARD_STACK,
                               __builtin_return_address(0));
        if (stack != NULL) {
            memset(stack, 0, KERNEL_STACK_SIZE);
        }
    }
    return stack;
}

void unmap_stack(void *stack)
{
    might_sleep_or_boot();
    if (vmap_find((uintptr_t)stack, VMAP_STACK, "unmap_stack") == NULL) {
        return;
    }
    int kept = vmap_keep_stack(stack);
    if (kept == 0) {
        vmap_free(stack, VMAP_STACK, "unmap_stack");
    } else if (kept < 0) {
        pr_err("BUG: unmap_stack(%p): given back twice", stack);
        warn_at(__FILE__, __LINE__, "a stack is given back twice");
    }
}

void *vmalloc(size_t size)
{
    struct page_stats stats;

    might_sleep();
    page_stats(&stats);
    if (size == 0 ||
        size > stats.free_bytes) { // don't take all memory to find out that it is not enough
        return NULL;
    }
    return vmap_new_pages(ALIGN_UP(size, PAGE_SIZE), VMAP_PAGES, 0, PTE_GUARD_AREA,
                          __builtin_return_address(0));
}

void vfree(void *pointer)
{
    might_sleep();
    if (pointer != NULL) {
        vmap_free(pointer, VMAP_PAGES, "vfree");
    }
}

void *vmap_demand_take(size_t size, const void *caller)
{
    struct vmap_area *area = vmap_take(ALIGN_UP(size, PAGE_SIZE), PAGE_SIZE, VMAP_DEMAND, caller);

    return area != NULL ? (void *)vmap_address(area) : NULL;
}

void vmap_demand_give(void *pointer)
{
    struct vmap_area *area = vmap_find((uintptr_t)pointer, VMAP_DEMAND, "demand_free");

    if (area != NULL) {
        vmap_free_pages(area, area->size);
        vmap_give(area);
    }
}

void vmap_stats(struct vmap_stats *stats)
{
    unsigned long irq;

    spin_lock_irqsave(&vmap_lock, irq);
    *stats = vmap_sum;
    spin_unlock_irqrestore(&vmap_lock, irq);
}

// As Linux's: addresses (the guard page included), size, who asked, and what lies behind it.
static void vmap_show_vmallocinfo(struct text *t, unsigned long index)
{
    struct vmap_area *area;
    unsigned long irq;

    (void)index;
    spin_lock_irqsave(&vmap_lock, irq);
    list_for_each_entry (area, &vmap_areas, link) {
        text_printf(t, "%#018lx-%#018lx %7zu ", (unsigned long)area->start,
                    (unsigned long)(vmap_address(area) + area->size), area->size + PAGE_SIZE);
        text_symbol(t, (uintptr_t)area->caller);
        if (area->kind == VMAP_DEVICE) {
            text_printf(t, " phys=%#018llx ioremap\n", (unsigned long long)area->phys);
        } else {
            text_printf(t, " pages=%zu %s\n", area->size / PAGE_SIZE,
                        area->kind == VMAP_STACK    ? "stack"
                        : area->kind == VMAP_DEMAND ? "demand"
                                                    : "vmalloc");
        }
    }
    spin_unlock_irqrestore(&vmap_lock, irq);
}
PROC_FILE("vmallocinfo", vmap_show_vmallocinfo);
