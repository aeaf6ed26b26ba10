// `driver`: which driver has which device; taking it away and giving it back while the rest runs
// on.
//
// Unbinding is the order of removal at work (the driver's remove): no new work, no interrupt, no
// thread or timer or poll, no DMA, and only then the memory. What a driver forgot is found by
// drivers/pci/pci_leak.c, which tells that order.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/command.h>
#include <dma/dma.h>
#include <pci/pci.h>
#include "device.h"

static int driver_list(struct shell *sh)
{
    shell_printf(sh, "%-12s %-9s %-8s %-6s %4s %4s\n", "device", "id", "driver", "type", "irq",
                 "dma");
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        bool bound = dev->dev.driver != NULL;

        shell_printf(sh, "%-12s %04x:%04x %-8s %-6s %4d %4u\n", dev->dev.name, dev->vendor,
                     dev->device, bound ? dev->dev.driver : "-",
                     bound ? pci_irq_type_name(dev) : "-", bound ? pci_irq_vector(dev, 0) : -1,
                     dma_outstanding(&dev->dev));
    }
    return 0;
}

static int driver_unbind(struct shell *sh, struct pci_dev *dev)
{
    int leaks = pci_unbind(dev);

    if (leaks < 0) {
        return shell_error(sh, "%s: no driver is bound to it", dev->dev.name);
    }
    if (leaks > 0) {
        return shell_error(sh, "%s: LEAK: %d things are left behind (dmesg says which)",
                           dev->dev.name, leaks);
    }
    return 0;
}

static int driver_bind(struct shell *sh, struct pci_dev *dev)
{
    int error = pci_bind(dev);

    if (error == -EBUSY) {
        return shell_error(sh, "%s: %s has it already", dev->dev.name, dev->dev.driver);
    }
    if (error != 0) {
        return shell_error(sh, "%s: %s (dmesg may say more)", dev->dev.name,
                           error == -ENODEV ? "no driver wants it" : strerror(error));
    }
    return 0;
}

static int cmd_driver(struct shell *sh, int argc, char **argv)
{
    if (argc == 1 || (argc == 2 && strcmp(argv[1], "list") == 0)) {
        return driver_list(sh);
    }
    if (argc != 3 || (strcmp(argv[1], "bind") != 0 && strcmp(argv[1], "unbind") != 0)) {
        return shell_usage(sh, "what to do with which device?");
    }
    struct pci_dev *dev = shell_find_device(argv[2]);
    if (dev == NULL) {
        return shell_error(sh, "%s: no such device (driver list shows them)", argv[2]);
    }
    return argv[1][0] == 'b' ? driver_bind(sh, dev) : driver_unbind(sh, dev);
}

COMMAND("driver", cmd_driver, "driver [list] | driver bind|unbind DEVICE",
        "which driver has which device; take it away, give it back\n"
        "DEVICE is a place on the bus, as 00:1f.2; unbind reports what the driver leaves behind");
