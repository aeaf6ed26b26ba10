// Brings the IDE controller of a PC's chipset together with the driver: the only file of it that
// knows PCI. Two channels at the ports and interrupts where they have been since 1984; only the bus
// master's ports are in a BAR.
//
//   /proc/driver/ide      channels, disks, counters
//   echo pio, echo dma    how the next commands move their data (also the boot option ide=)
//
// PCI IDE Controller Specification 1.0; Programming Interface for Bus Master IDE Controller 1.0.
// Context: thread. Next: ide.c.
#include "ide.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/log.h>
#include <core/resource.h>
#include <mm/slab.h>
#include <irq/route.h>
#include <pci/pci.h>

enum {
    IDE_CHANNELS = 2,
    IDE_COMMAND_PORTS = 8,
    IDE_TIMEOUT_LEAST_MS = 100,
    IDE_TIMEOUT_MOST_MS = 600000,
};
#define IDE_NATIVE BIT(0) // of the interface byte: this channel's ports and interrupt are PCI's

struct ide_controller {
    struct ide_channel channels[IDE_CHANNELS];
    bool started[IDE_CHANNELS]; // I
};

static DEFINE_MUTEX(ide_mutex);
static struct ide_controller *ide_controller; // L: a PC has one

static const struct ide_place {
    uint16_t command, control;
    unsigned line;
    const char *name;
} ide_places[IDE_CHANNELS] = {
    {IDE_PRIMARY, IDE_PRIMARY_CONTROL, IDE_PRIMARY_IRQ, "ide0"},
    {IDE_SECONDARY, IDE_SECONDARY_CONTROL, IDE_SECONDARY_IRQ, "ide1"},
};

static void ide_claim(const struct ide_place *place, bool claim)
{
    int (*change)(enum resource_kind kind, uint64_t start, uint64_t end, const char *name) =
        claim ? resource_add : resource_remove;

    change(RESOURCE_PORTS, place->command, place->command + IDE_COMMAND_PORTS - 1u, place->name);
    change(RESOURCE_PORTS, place->control, place->control, place->name);
}

static int ide_start_channel(struct pci_dev *dev, struct ide_controller *controller, unsigned index)
{
    struct ide_channel *channel = &controller->channels[index];
    const struct ide_place *place = &ide_places[index];
    const struct pci_bar *bar = &dev->bars[PIIX_IDE_BAR];
    uint16_t timing = (uint16_t)(PIIX_IDE_TIMING + 2 * index);

    if ((dev->class_code & (IDE_NATIVE << (2 * index))) != 0) {
        dev_warn(&dev->dev, "channel %u is in native mode, which is not driven here", index);
        return -EOPNOTSUPP;
    }
    *channel = (struct ide_channel){.dev = &dev->dev,
                                    .index = index,
                                    .command = place->command,
                                    .control = place->control,
                                    .irq = route_isa(place->line)};
    if (bar->is_port && bar->base != 0 && bar->size >= IDE_CHANNELS * IDE_BM_PORTS) {
        channel->bus_master = (uint16_t)(bar->base + index * IDE_BM_PORTS);
    }
    if (channel->irq < 0) {
        return -ENODEV;
    }
    pci_write16(dev, timing, (uint16_t)(pci_read16(dev, timing) | PIIX_IDE_DECODE));
    ide_claim(place, true);
    int found = ide_channel_start(channel);
    if (found < 0) {
        ide_claim(place, false);
        return found;
    }
    controller->started[index] = true;
    return 0;
}

static int ide_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
    (void)id;
    int error = -ENODEV;
    struct ide_controller *controller = kzalloc(sizeof(*controller), GFP_KERNEL);
    if (controller == NULL) {
        return -ENOMEM;
    }
    int enabled = pci_enable_device(dev);
    if (enabled != 0) {
        kfree(controller);
        return enabled;
    }
    dma_set_mask(&dev->dev, DMA_BIT_MASK(32));
    pci_set_master(dev); // looking for partitions is done by DMA
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        int started = ide_start_channel(dev, controller, i);
        error = started == 0 || error == 0 ? 0 : started;
    }
    if (error != 0) { // neither
        pci_clear_master(dev);
        pci_disable_device(dev);
        kfree(controller);
        return error;
    }
    pci_set_drvdata(dev, controller);
    mutex_lock(&ide_mutex);
    ide_controller = controller;
    mutex_unlock(&ide_mutex);
    return 0;
}

static void ide_remove(struct pci_dev *dev)
{
    struct ide_controller *controller = pci_get_drvdata(dev);
    bool clean = true;

    mutex_lock(&ide_mutex);
    ide_controller = NULL;
    mutex_unlock(&ide_mutex);
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        if (controller->started[i]) {
            clean = ide_channel_stop(&controller->channels[i]) && clean;
            ide_claim(&ide_places[i], false);
        }
    }
    pci_clear_master(dev);
    pci_disable_device(dev);
    if (clean) {
        kfree(controller);
    }
}

static void ide_proc_show(struct text *t, unsigned long index)
{
    (void)index;
    mutex_lock(&ide_mutex);
    text_printf(t, "mode: %s%s\n", ide_mode == IDE_PIO ? "pio" : "dma", ide_lba28 ? "28" : "");
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        if (ide_controller != NULL && ide_controller->started[i]) {
            ide_show(&ide_controller->channels[i], t);
        }
    }
    mutex_unlock(&ide_mutex);
}

static int ide_set_mode(const char *value)
{
    bool pio = strncmp(value, "pio", 3) == 0, lba28 = strcmp(value + strnlen(value, 3), "28") == 0;

    if ((!pio && strncmp(value, "dma", 3) != 0) || (!lba28 && strlen(value) != 3)) {
        return -EINVAL;
    }
    WRITE_ONCE(ide_mode, pio ? IDE_PIO : IDE_DMA);
    WRITE_ONCE(ide_lba28, lba28);
    return 0;
}

static int ide_proc_write(const char *line, unsigned long index)
{
    (void)index;
    return ide_set_mode(line);
}

PROC_FILE_RW("driver/ide", ide_proc_show, ide_proc_write);
BOOT_OPTION("ide", ide_set_mode,
            "ide=pio: IDE disks move data through the CPU; ide=dma (default); pio28, dma28: by "
            "commands of 28 bits");

BOOT_NUMBER("ide.timeout", ide_timeout_ms, IDE_TIMEOUT_LEAST_MS, IDE_TIMEOUT_MOST_MS,
            "ide.timeout=MS: when a command counts as lost");

static const struct pci_device_id ide_ids[] = {
    {.vendor = 0x8086, .device = PCI_ANY_ID, .class_code = 0x010100, .class_mask = 0xffff00},
    {.vendor = 0},
};

PCI_DRIVER(ide_driver)
= {.name = "ide", .ids = ide_ids, .probe = ide_probe, .remove = ide_remove};
