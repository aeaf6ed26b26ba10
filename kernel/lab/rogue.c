// A device that writes where it was not told to. Four writes and some made-up interrupts, each
// tried and looked at: without translation hardware they land, with it most of them do not.
//
//   given to it          a page mapped for it by dma_map_single: this must land
//   not given            a page that is mapped for nobody
//   taken back           the first page's old address, after dma_unmap_single
//   beside the buffer    the same page as a buffer that is mapped, but outside of it
//   a made-up interrupt  a write to 0xfee00000: the same thing that a message interrupt is
//   another's interrupt  with remapping: a message that names an entry of somebody else's
//   nobody's interrupt   with remapping: one that names an entry which is not there
//
// The fourth lands with any such hardware: it guards pages, and a buffer that shares its page with
// something else shares its fate.
//
// Needs QEMU's edu device; for interrupts with dma_mask=0xffffffff. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/cpu.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>
#include <mm/page.h>
#include <irq/desc.h>
#include <irq/soft_line.h>
#include <sched/sleep.h>
#include <dma/dma.h>
#include <iommu/iommu.h>
#include <misc/edu.h>

enum { ROGUE_SIZE = 16, ROGUE_OLD = 0x11, ROGUE_NEW = 0xee, ROGUE_PAUSE_MS = 150 };

static const struct lab_column rogue_columns[] = {
    {"the device writes", -20},
    {"at bus address", -16},
    {"landed", -6},
    {"faults", 6},
    {"should", -18},
    {NULL, 0},
};

struct rogue {
    struct shell *sh;
    struct device *dev;
    unsigned char *page; // within the device's reach
    int error;
};

static void rogue_row(struct rogue *rogue, const char *what, uint64_t bus, const char *landed,
                      uint64_t faults, const char *should)
{
    char address[20], count[20];

    snprintf(address, sizeof(address), "%#llx", (unsigned long long)bus);
    snprintf(count, sizeof(count), "%llu", (unsigned long long)faults);
    lab_row(rogue->sh, rogue_columns, (const char *const[]){what, address, landed, count, should});
}

// The write, and whether `target` in memory changed.
static void rogue_write(struct rogue *rogue, const char *what, uint64_t bus,
                        const unsigned char *target, const char *should)
{
    unsigned char bytes[ROGUE_SIZE];
    uint64_t faults = iommu_fault_count(rogue->dev);

    memset(bytes, ROGUE_NEW, sizeof(bytes));
    memset(rogue->page, ROGUE_OLD, PAGE_SIZE);
    int error = edu_write_anywhere(bus, bytes, sizeof(bytes));
    if (error != 0) {
        shell_printf(rogue->sh, "%s: the device did not write: error %d\n", what, error);
        rogue->error = 1;
        return;
    }
    msleep(ROGUE_PAUSE_MS); // the thread that reads the fault records comes after the device
    bool landed = *(const volatile unsigned char *)target == ROGUE_NEW;
    rogue_row(rogue, what, bus, landed ? "YES" : "no", iommu_fault_count(rogue->dev) - faults,
              should);
}

static void rogue_memory(struct rogue *rogue)
{
    bool on = iommu_is_on();
    dma_addr_t handle = dma_map_single(rogue->dev, rogue->page, ROGUE_SIZE, DMA_FROM_DEVICE);

    if (dma_mapping_error(rogue->dev, handle)) {
        rogue->error = shell_error(rogue->sh, "the page could not be mapped");
        return;
    }
    rogue_write(rogue, "given to it", handle.value, rogue->page, "land");
    rogue_write(rogue, "beside the buffer", handle.value + 512, rogue->page + 512,
                "land: same page");
    dma_unmap_single(rogue->dev, handle, ROGUE_SIZE, DMA_FROM_DEVICE);
    rogue_write(rogue, "taken back", handle.value, rogue->page, on ? "be stopped" : "land");
    rogue_write(rogue, "not given", virt_to_phys(rogue->page), rogue->page,
                on ? "be stopped" : "land");
}

static irqreturn_t rogue_handler(int irq, void *dev_id)
{
    (void)irq;
    __atomic_fetch_add((uint32_t *)dev_id, 1, __ATOMIC_RELAXED);
    return IRQ_HANDLED;
}

static void rogue_interrupt(struct rogue *rogue, const char *what, uint64_t address, uint32_t data,
                            uint32_t *count, const char *should)
{
    uint32_t before = __atomic_load_n(count, __ATOMIC_RELAXED);
    uint64_t faults = iommu_fault_count(rogue->dev);
    int error = edu_write_anywhere(address, &data, sizeof(data));

    if (error != 0) {
        shell_printf(rogue->sh, "%s: the device did not write: error %d\n", what, error);
        rogue->error = 1;
        return;
    }
    msleep(ROGUE_PAUSE_MS);
    bool landed = __atomic_load_n(count, __ATOMIC_RELAXED) != before;
    rogue_row(rogue, what, address, landed ? "YES" : "no", iommu_fault_count(rogue->dev) - faults,
              should);
}

// A line of our own takes the made-up interrupts: whoever's vector it is, the kernel must stay up,
// and the count says what came.
static void rogue_interrupts(struct rogue *rogue)
{
    static uint32_t count; // A: outlives a late message
    int irq = soft_line_open(rogue_handler, &count, "rogue");

    if (irq < 0) {
        rogue->error = shell_error(rogue->sh, "no line for the interrupts: error %d", irq);
        return;
    }
    rogue_interrupt(rogue, "a made-up interrupt", MSI_ADDRESS_BASE, soft_line_vector(irq), &count,
                    irq_remap != NULL ? "be stopped (1)" : "land");
    if (irq_remap != NULL) {
        const struct irq_data *data = &irq_to_desc((unsigned)irq)->data;
        uint64_t message = irq_remap_message((unsigned)irq);

        irq_remap->set(data, rogue->dev->source ^ 1); // it may be used by another device only
        rogue_interrupt(rogue, "another's interrupt", message, 0, &count, "be stopped (2)");
        irq_remap->clear(data);
        rogue_interrupt(rogue, "nobody's interrupt", message, 0, &count, "be stopped");
        shell_printf(rogue->sh, "(1) QEMU 7.2 lets messages in the old form through\n"
                                "(2) and does not look who wrote it, when edu did\n");
    }
    soft_line_close(irq, &count);
}

static int lab_rogue(struct shell *sh, int argc, char **argv)
{
    struct rogue rogue = {.sh = sh, .dev = edu_find_device()};

    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    if (rogue.dev == NULL) {
        return shell_error(sh, "no edu device: `make run` has it; else start QEMU with "
                               "-device edu,dma_mask=0xffffffff");
    }
    rogue.page = alloc_pages_within(GFP_KERNEL | GFP_ZERO, 0, DMA_BIT_MASK(28));
    if (rogue.page == NULL) {
        return shell_error(sh, "no memory within the device's reach");
    }
    shell_printf(sh, "translation is %s, interrupt remapping is %s\n", iommu_is_on() ? "on" : "off",
                 irq_remap != NULL ? "on" : "off");
    lab_table(sh, rogue_columns);
    rogue_memory(&rogue);
    rogue_interrupts(&rogue);
    free_page(rogue.page);
    return rogue.error;
}

LAB("rogue-dma", lab_rogue, "", "a device writes where it should not: what lands, what is stopped");
