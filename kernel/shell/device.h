// Devices by name, for commands.
#pragma once

#include <pci/pci.h>

// The first device that is called so; NULL: none. Context: thread.
struct pci_dev *shell_find_device(const char *name);
