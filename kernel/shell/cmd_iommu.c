// iommu: which device may reach which memory, and taking it away.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/command.h>
#include <iommu/iommu.h>
#include <mm/slab.h>
#include <pci/pci.h>
#include "device.h"

enum { IOMMU_TEXT_SIZE = 256 * 1024 };

static int iommu_print(struct shell *sh, const struct device *dev)
{
    char *buffer = kmalloc(IOMMU_TEXT_SIZE, GFP_KERNEL);
    if (buffer == NULL) {
        return shell_error(sh, "no memory");
    }
    struct text t;
    text_init(&t, buffer, IOMMU_TEXT_SIZE);
    if (dev != NULL) {
        iommu_show_mappings(&t, dev);
    } else {
        iommu_show(&t);
    }
    shell_write(sh, buffer, strlen(buffer));
    kfree(buffer);
    return 0;
}

static int iommu_allow(struct shell *sh, struct pci_dev *dev, bool deny)
{
    int error = iommu_deny(&dev->dev, deny);

    if (error == -ENODEV) {
        return shell_error(sh, "%s: %s", dev->dev.name,
                           iommu_is_on() ? "it has no domain: it never asked for DMA"
                                         : "translation is off: boot with intel_iommu=on");
    }
    return error == 0 ? 0 : shell_error(sh, "%s: no memory", dev->dev.name);
}

static int cmd_iommu(struct shell *sh, int argc, char **argv)
{
    if (argc == 1) {
        return iommu_print(sh, NULL);
    }
    bool deny = strcmp(argv[1], "deny") == 0, allow = strcmp(argv[1], "allow") == 0;
    if (argc != 3 || (!deny && !allow && strcmp(argv[1], "map") != 0)) {
        return shell_usage(sh, "map, deny or allow, and a device");
    }
    struct pci_dev *dev = shell_find_device(argv[2]);
    if (dev == NULL) {
        return shell_error(sh, "%s: no such device (lspci and ip addr list them)", argv[2]);
    }
    return deny || allow ? iommu_allow(sh, dev, deny) : iommu_print(sh, &dev->dev);
}

COMMAND("iommu", cmd_iommu, "iommu [map DEVICE | deny DEVICE | allow DEVICE]",
        "what stands between devices and memory\nWithout arguments: units, domains, counts of "
        "faults (dmesg tells each).\nmap: what the device may reach now. deny: nothing any more, "
        "until allow.\nNeeds a machine with Intel's VT-d and the boot option intel_iommu=on.");
