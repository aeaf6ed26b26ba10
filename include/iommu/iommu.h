// Translation hardware between devices and memory: Intel VT-d. Boot options intel_iommu=on|off,
// iommu=pt, iommu.strict=0|1, intremap=off.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/device.h>
#include <lib/text.h>
#include <lib/types.h>

// Reads the ACPI table DMAR (NULL: there is none) and turns the units on where the boot options
// want it: translation, which from then on lets no device reach anything, and interrupt remapping.
// Context: boot CPU, before the first irq is started.
void iommu_init(const void *table, size_t size);
// Their fault interrupts. Context: thread.
void iommu_start(void);
bool iommu_is_on(void); // Context: any
// How this device's addresses are translated: "none", "pass-through", "lazy", "strict". Context:
// any.
const char *iommu_mode(struct device *dev);

// Takes the device's view of memory away, or gives it back: every access is a fault meanwhile. 0;
// -ENODEV: it has no domain (it never asked for DMA), or there is no unit. Context: thread.
int iommu_deny(struct device *dev, bool deny);
// Faults of this device since boot. Context: any.
uint64_t iommu_fault_count(const struct device *dev);

// For the console: units and domains; what a device may reach (one line for each run of pages).
void iommu_show(struct text *t);
void iommu_show_mappings(struct text *t, const struct device *dev);
