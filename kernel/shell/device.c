// What people call a device: by its place, "0000:00:02.0" or "00:02.0", by what its driver calls
// it, "eth0" or "nvme0", or by its driver's name.
//
// Context: thread.
#include "device.h"

#include <lib/string.h>
#include <core/rcu.h>
#include <dev/netdev.h>

static bool device_is_called(const struct pci_dev *dev, const char *name)
{
    const char *full = dev->dev.name; // "0000:00:02.0"; "00:02.0" will do

    if (strcmp(full, name) == 0 || (strlen(full) > 5 && strcmp(full + 5, name) == 0) ||
        strcmp(dev->dev.alias, name) == 0) {
        return true;
    }
    struct net_device *net = NULL;

    rcu_read_lock();
    while ((net = netdev_next(net)) != NULL &&
           (net->parent != &dev->dev || strcmp(net->name, name) != 0)) {
    }
    rcu_read_unlock();
    if (net != NULL) {
        return true;
    }
    return dev->dev.driver != NULL && strcmp(dev->dev.driver, name) == 0;
}

struct pci_dev *shell_find_device(const char *name)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (device_is_called(dev, name)) {
            return dev;
        }
    }
    return NULL;
}
