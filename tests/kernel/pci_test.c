// PCI, seen from inside: the devices of the machine this runs on, and what accesses that cannot be
// are answered with.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/resource.h>
#include <x86/acpi.h>
#include <pci/pci.h>

// Every QEMU and Bochs machine has a host bridge at 00:00.0.
KTEST(pci, host_bridge)
{
    struct pci_dev *dev = pci_find(0, 0, 0);
    REQUIRE(dev != NULL);
    EXPECT_EQ(dev->class_code >> 8, 0x0600);
    EXPECT_EQ(dev->vendor, 0x8086);
    EXPECT_EQ(strcmp(dev->dev.name, "0000:00:00.0"), 0);
    EXPECT_EQ(pci_read16(dev, 0), dev->vendor);
    EXPECT_EQ(pci_read16(dev, 2), dev->device);
    EXPECT_EQ(pci_read32(dev, 0), (uint32_t)dev->device << 16 | dev->vendor);
    EXPECT(pci_find(255, 31, 7) == NULL);
    EXPECT(pci_next(NULL) == dev);
}

KTEST(pci, impossible_accesses_read_all_ones)
{
    struct pci_dev *dev = pci_find(0, 0, 0);
    REQUIRE(dev != NULL);
    EXPECT_EQ(pci_read16(dev, 1), 0xffff);
    EXPECT_EQ(pci_read32(dev, 2), 0xffffffff);
    EXPECT_EQ(pci_read8(dev, 0x1000), 0xff);
    EXPECT_EQ(pci_read32(dev, 0xfffc), 0xffffffff);
    if (acpi.mcfg_count == 0) {
        EXPECT_EQ(pci_read32(dev, 0x100), 0xffffffff);
    }
    // And write nothing: the register beside an unaligned write is as it was.
    uint32_t command = pci_read32(dev, 4);
    pci_write32(dev, 5, UINT32_MAX);
    pci_write16(dev, 5, UINT16_MAX);
    pci_write8(dev, 0x1004, UINT8_MAX);
    EXPECT_EQ(pci_read32(dev, 4), command);
    // A function that is not there, and a bus that nobody has looked at.
    struct pci_dev nowhere = *dev;
    nowhere.slot = 30;
    nowhere.function = 7;
    EXPECT_EQ(pci_read32(&nowhere, 0), 0xffffffff);
    nowhere.bus = 200;
    EXPECT_EQ(pci_read32(&nowhere, 0), 0xffffffff);
    nowhere.slot = 32;
    EXPECT_EQ(pci_read32(&nowhere, 0), 0xffffffff);
}

KTEST(pci, accesses_of_all_widths_agree)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        for (uint16_t offset = 0; offset < 0x10; offset += 4) {
            uint32_t whole = pci_read32(dev, offset);
            uint32_t halves =
                pci_read16(dev, offset) | (uint32_t)pci_read16(dev, (uint16_t)(offset + 2)) << 16;
            uint32_t bytes = 0;
            for (uint16_t i = 0; i < 4; i++) {
                bytes |= (uint32_t)pci_read8(dev, (uint16_t)(offset + i)) << (8 * i);
            }
            EXPECT_EQ(halves, whole);
            EXPECT_EQ(bytes, whole);
        }
    }
}

KTEST(pci, bars_are_sane)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
            const struct pci_bar *bar = &dev->bars[i];
            if (bar->size == 0) {
                continue;
            }
            EXPECT(IS_POWER_OF_2(bar->size));
            EXPECT_EQ(bar->base & (bar->size - 1), 0);
            // Asking for the size left the register as it was.
            uint32_t now = pci_read32(dev, (uint16_t)(0x10 + 4 * i));
            EXPECT_EQ(now & (bar->is_port ? ~3u : ~15u), (uint32_t)bar->base);
        }
        EXPECT(dev->cap_count <= PCI_MAX_CAPS);
    }
}

KTEST(pci, wires_lead_somewhere)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        EXPECT(dev->pin <= 4);
        if (dev->pin == 0) {
            EXPECT_EQ(dev->irq, -1);
        } else if (acpi.intx_count != 0) {
            EXPECT(dev->irq >= 16 && dev->irq <= 23); // q35's own, never the twin on 10 or 11
        }
    }
}

struct pci_resource_search {
    const struct pci_dev *dev;
    unsigned found;
};

static void pci_resource_seen(uint64_t start, uint64_t end, const char *name, unsigned depth,
                              void *arg)
{
    struct pci_resource_search *search = arg;
    const struct pci_bar *bar = &search->dev->bars[5];
    (void)depth;
    search->found += start == bar->base && end == bar->base + bar->size - 1 &&
                     strcmp(name, search->dev->dev.name) == 0;
}

KTEST(pci, resources_are_named)
{
    struct pci_dev *dev = pci_next(NULL);
    while (dev != NULL && (dev->class_code != 0x010601 || dev->bars[5].base == 0)) {
        dev = pci_next(dev);
    }
    if (dev == NULL) {
        SKIP("no AHCI controller here");
    }
    struct pci_resource_search search = {.dev = dev};
    resource_walk(RESOURCE_MEMORY, pci_resource_seen, &search);
    EXPECT_EQ(search.found, 1);
}

KTEST(pci, bind_refuses)
{
    struct pci_dev *dev = pci_find(0, 0, 0); // a host bridge: no driver wants it
    REQUIRE(dev != NULL);
    EXPECT_EQ(pci_bind(dev), -ENODEV);
    EXPECT_EQ(pci_unbind(dev), -ENODEV);
    for (dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (dev->driver != NULL) {
            EXPECT_EQ(pci_bind(dev), -EBUSY);
        }
    }
}

KTEST(pci, map_bar_refuses)
{
    struct pci_dev *dev = pci_find(0, 0, 0);
    REQUIRE(dev != NULL);
    EXPECT(pci_map_bar(dev, 0, 1, "test") == NULL); // has none
    EXPECT(pci_map_bar(dev, 6, 1, "test") == NULL);
    pci_unmap_bar(dev, 6);
    pci_unmap_bar(dev, 0);
}
