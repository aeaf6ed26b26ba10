// The names of PCI vendors, devices and classes, as pciutils writes them. NULL: not known here.
#pragma once

#include <lib/types.h>

const char *pci_vendor_name(uint16_t vendor);
const char *pci_device_name(uint16_t vendor, uint16_t device);
const char *
pci_class_name(uint16_t code); // class and subclass; the class alone where that is known
