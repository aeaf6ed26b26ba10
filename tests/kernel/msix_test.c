// MSI-X for real: many vectors of one device, each with a mask and a CPU of its own. The device is
// an NVMe controller, whose queues have a message each.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <x86/irq_remap.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/irqbalance.h>
#include <dev/block.h>
#include <pci/pci.h>

#include "disk_case.h"
#include "eventually.h"

enum { MSIX_TEST_DEPTH = 16, MSIX_TEST_READS = 4000 };

// A device that uses MSI-X, whose disk is here; its queue for `cpu` has vector 1 + cpu.
static struct pci_dev *msix_test_device(struct gendisk **disk)
{
    *disk = blk_find("nvme0n1");
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL && *disk != NULL; dev = pci_next(dev)) {
        if (strcmp(dev->dev.alias, "nvme0") == 0 && strcmp(pci_irq_type_name(dev), "MSI-X") == 0) {
            return dev;
        }
    }
    if (*disk != NULL) {
        blk_put(*disk);
    }
    return NULL;
}

KTEST(msix, each_vector_has_a_cpu_of_its_own)
{
    struct gendisk *disk;
    struct pci_dev *dev = msix_test_device(&disk);
    if (dev == NULL) {
        SKIP("no NVMe disk by MSI-X");
    }
    unsigned count = 0;
    uint8_t seen[256] = {0};
    for (; pci_irq_vector(dev, count) >= 0; count++) {
        struct irq_desc *desc = irq_to_desc((unsigned)pci_irq_vector(dev, count));
        uint64_t address = 0;
        uint32_t data = 0;
        bool masked = true;
        REQUIRE(desc != NULL);
        REQUIRE(pci_msi_read_message(dev, count, &address, &data, &masked));
        EXPECT(!masked);
        EXPECT_EQ(seen[desc->data.vector]++, 0);
        EXPECT_EQ(desc->data.hwirq, count);
        EXPECT_EQ(route_vector_irq(desc->data.vector), desc->data.irq);
        if (irq_remap == NULL) {
            EXPECT_EQ(data & 0xff, desc->data.vector);
            EXPECT_EQ(address, 0xfee00000u | desc->data.apic_id << 12);
        } else {
            EXPECT_EQ(address, irq_remap_message(desc->data.irq));
        }
        if (count > 0) {
            EXPECT(!cpumask_empty(&desc->affinity_hint));
            EXPECT(cpumask_test(&desc->affinity_hint, desc->data.cpu));
        }
    }
    EXPECT(count >= 2 && count <= cpumask_weight(&cpu_online_mask) + 1);
    blk_put(disk);
}

// The message waits in the device while its entry is masked, and comes at the unmask. Once.
KTEST(msix, a_masked_message_waits_in_the_device)
{
    struct gendisk *disk;
    struct pci_dev *dev = msix_test_device(&disk);
    if (dev == NULL) {
        SKIP("no NVMe disk by MSI-X");
    }
    struct test_request *read = kzalloc(sizeof(*read), GFP_KERNEL);
    void *page = alloc_page(GFP_KERNEL);
    REQUIRE(read != NULL && page != NULL);
    test_request_make(read, disk, REQ_OP_READ, 0, 1, page);

    preempt_disable(); // the queue is that of the CPU that submits
    struct irq_desc *desc =
        irq_to_desc((unsigned)pci_irq_vector(dev, 1 + cpu_id() % disk->queue_count));
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    irq_mask(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
    uint64_t before = irq_desc_total(desc);
    blk_submit(&read->request);
    preempt_enable();

    EXPECT(EVENTUALLY(pci_msi_is_pending(dev, desc->data.hwirq)));
    EXPECT_EQ(irq_desc_total(desc), before);
    spin_lock_irqsave(&desc->lock, flags);
    irq_unmask(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
    REQUIRE(test_request_wait(read));
    EXPECT_EQ(read->request.status, 0);
    EXPECT_EQ(irq_desc_total(desc), before + 1);
    EXPECT(!pci_msi_is_pending(dev, desc->data.hwirq));
    free_page(page);
    kfree(read);
    blk_put(disk);
}

// ---- moving and masking while it fires ----------------------------------------------------------

struct msix_test_load {
    struct gendisk *disk;
    struct request requests[MSIX_TEST_DEPTH];
    void *pages[MSIX_TEST_DEPTH];
    uint32_t left, under_way, ended, errors; // A
    struct completion over;
};

static void msix_test_submit(struct msix_test_load *load, struct request *request);

static void msix_test_ended(struct request *request)
{
    struct msix_test_load *load = request->private_data;
    __atomic_fetch_add(&load->ended, 1, __ATOMIC_RELAXED);
    if (request->status != 0) {
        __atomic_fetch_add(&load->errors, 1, __ATOMIC_RELAXED);
    }
    uint32_t left = __atomic_load_n(&load->left, __ATOMIC_RELAXED);
    while (left != 0 && !__atomic_compare_exchange_n(&load->left, &left, left - 1, true,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (left != 0) {
        msix_test_submit(load, request);
    } else if (__atomic_sub_fetch(&load->under_way, 1, __ATOMIC_ACQ_REL) == 0) {
        complete(&load->over);
    }
}

static void msix_test_submit(struct msix_test_load *load, struct request *request)
{
    size_t index = (size_t)(request - load->requests);
    blk_request_init(request, load->disk, REQ_OP_READ, index * 8, 8, load->pages[index],
                     msix_test_ended, load);
    blk_submit(request);
}

static bool msix_test_start(struct msix_test_load *load)
{
    init_completion(&load->over);
    for (unsigned i = 0; i < MSIX_TEST_DEPTH; i++) {
        load->pages[i] = alloc_page(GFP_KERNEL);
        if (load->pages[i] == NULL) {
            return false;
        }
    }
    load->left = MSIX_TEST_READS - MSIX_TEST_DEPTH;
    load->under_way = MSIX_TEST_DEPTH;
    for (unsigned i = 0; i < MSIX_TEST_DEPTH; i++) {
        msix_test_submit(load, &load->requests[i]);
    }
    return true;
}

// One step of a person who cannot leave things alone: another CPU, or a mask for a moment.
static void msix_test_disturb(struct pci_dev *dev, unsigned vectors, unsigned step)
{
    unsigned irq = (unsigned)pci_irq_vector(dev, 1 + step % (vectors - 1));
    struct irq_desc *desc = irq_to_desc(irq);
    struct cpumask mask = {0};
    unsigned long flags;

    if (step % 3 == 0) {
        disable_irq(irq);
        enable_irq(irq);
    } else if (step % 3 == 1) {
        spin_lock_irqsave(&desc->lock, flags);
        irq_mask(desc);
        irq_unmask(desc);
        spin_unlock_irqrestore(&desc->lock, flags);
    } else {
        cpumask_set(&mask, step % cpumask_weight(&cpu_online_mask));
        irq_set_affinity(irq, &mask);
    }
}

KTEST(msix, moved_and_masked_under_load_nothing_is_lost_or_doubled)
{
    struct gendisk *disk;
    struct pci_dev *dev = msix_test_device(&disk);
    if (dev == NULL) {
        SKIP("no NVMe disk by MSI-X");
    }
    struct msix_test_load *load = kzalloc(sizeof(*load), GFP_KERNEL);
    REQUIRE(load != NULL);
    load->disk = disk;
    struct disk_stats before, after;
    blk_stats(disk, &before);
    REQUIRE(msix_test_start(load));
    unsigned vectors = disk->queue_count + 1, steps = 0;
    bool over = EVENTUALLY(({
        for (unsigned i = 0; i < 20; i++) {
            msix_test_disturb(dev, vectors, steps++);
        }
        READ_ONCE(load->under_way) == 0;
    }));
    REQUIRE(over); // or the requests are still the disk's
    wait_for_completion(&load->over);
    EXPECT_EQ(load->ended, MSIX_TEST_READS);
    EXPECT_EQ(load->errors, 0);
    blk_stats(disk, &after);
    EXPECT_EQ(after.ios[REQ_OP_READ] - before.ios[REQ_OP_READ], MSIX_TEST_READS);
    EXPECT_EQ(after.timeouts, before.timeouts); // a lost message would have cost one
    for (unsigned i = 1; i < vectors; i++) {    // home again
        unsigned irq = (unsigned)pci_irq_vector(dev, i);
        struct cpumask home = irq_to_desc(irq)->affinity_hint;
        EXPECT_EQ(irq_set_affinity(irq, &home), 0);
    }
    for (unsigned i = 0; i < MSIX_TEST_DEPTH; i++) {
        free_page(load->pages[i]);
    }
    kfree(load);
    blk_put(disk);
}

KTEST(msix, irqbalance_leaves_queues_with_their_cpus)
{
    struct gendisk *disk;
    struct pci_dev *dev = msix_test_device(&disk);
    if (dev == NULL) {
        SKIP("no NVMe disk by MSI-X");
    }
    void *page = alloc_page(GFP_KERNEL);
    REQUIRE(page != NULL);
    irqbalance_once();
    for (unsigned i = 0; i < 100; i++) {
        EXPECT_EQ(blk_read(disk, 0, 8, page), 0);
    }
    irqbalance_once();
    for (unsigned i = 1; i <= disk->queue_count; i++) {
        struct irq_desc *desc = irq_to_desc((unsigned)pci_irq_vector(dev, i));
        EXPECT(cpumask_test(&desc->affinity_hint, desc->data.cpu));
    }
    free_page(page);
    blk_put(disk);
}
