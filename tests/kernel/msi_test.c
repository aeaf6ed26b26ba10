// Message interrupts: what the device holds is what the kernel believes, and moving one loses
// nothing.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <x86/irq_remap.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <dev/block.h>
#include <mm/page.h>
#include <pci/pci.h>

static struct pci_dev *msi_test_device(void)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (dev->msi != NULL && strcmp(pci_irq_type_name(dev), "MSI") == 0) { // MSI-X: msix_test.c
            return dev;
        }
    }
    return NULL;
}

KTEST(msi, the_device_holds_the_kernels_message)
{
    struct pci_dev *dev = msi_test_device();
    uint64_t address = 0;
    uint32_t data = 0;
    bool masked = true;

    if (dev == NULL) {
        SKIP("no device with message interrupts");
    }
    struct irq_desc *desc = irq_to_desc((unsigned)pci_irq_vector(dev, 0));
    REQUIRE(desc != NULL && desc->started);
    for_each_online_cpu (cpu) {
        struct cpumask mask = {0};

        cpumask_set(&mask, cpu);
        EXPECT_EQ(irq_set_affinity(desc->data.irq, &mask), 0);
        REQUIRE(pci_msi_read_message(dev, 0, &address, &data, &masked));
        uint8_t vector = 0;
        uint32_t apic_id = UINT32_MAX;
        EXPECT(irq_message_decode(address, data, &vector, &apic_id));
        EXPECT_EQ(apic_id, cpus[cpu].apic_id);
        EXPECT_EQ(vector, desc->data.vector);
        if (irq_remap == NULL) {
            EXPECT_EQ(address, 0xfee00000u | cpus[cpu].apic_id << 12);
            EXPECT_EQ(data, desc->data.vector);
        } else {
            EXPECT_EQ(address, irq_remap_message(desc->data.irq));
        }
        EXPECT(!masked);
        EXPECT_EQ(route_vector_irq(desc->data.vector), desc->data.irq);
    }
    EXPECT(!pci_msi_read_message(dev, 1000, &address, &data, &masked));
    EXPECT_EQ(pci_irq_vector(dev, 1000), -EINVAL);
    EXPECT_EQ(pci_alloc_irq_vectors(dev, 1, 1, PCI_IRQ_ALL_TYPES), -EINVAL); // it has some
}

// One interrupt for each read that waited for its end; the message moves on between two of them.
KTEST(msi, a_moving_message_loses_no_disk_read)
{
    struct gendisk *disk = blk_find("sda");
    struct pci_dev *dev = msi_test_device();

    if (disk == NULL || dev == NULL || strcmp(dev->dev.driver, "ahci") != 0) {
        if (disk != NULL) {
            blk_put(disk);
        }
        SKIP("no disk behind a message interrupt");
    }
    struct irq_desc *desc = irq_to_desc((unsigned)pci_irq_vector(dev, 0));
    uint64_t before = irq_desc_total(desc);
    void *page = alloc_page(GFP_KERNEL);
    unsigned reads = 0;

    for (unsigned i = 0; page != NULL && i < 200; i++) {
        struct cpumask mask = {0};

        cpumask_set(&mask, i % cpumask_weight(&cpu_online_mask));
        EXPECT_EQ(irq_set_affinity(desc->data.irq, &mask), 0);
        if (blk_read(disk, i % 64, 1, page) == 0) {
            reads++;
        }
    }
    EXPECT_EQ(reads, 200);
    EXPECT(irq_desc_total(desc) >= before + 200);
    free_page(page);
    blk_put(disk);
}
