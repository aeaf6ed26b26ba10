// What the numbers of PCI functions mean: a small table of what QEMU and Bochs offer. Whatever is
// not in it has no name here and is shown as its numbers, which are always right.
//
// Context: any. Pure. Previous: cmd_pci.c.
#include "pci_names.h"

static const struct {
    uint16_t vendor;
    const char *name;
} pci_vendors[] = {
    {0x1000, "Broadcom / LSI"},
    {0x1013, "Cirrus Logic"},
    {0x1022, "Advanced Micro Devices, Inc. [AMD]"},
    {0x10ec, "Realtek Semiconductor Co., Ltd."},
    {0x15ad, "VMware"},
    {0x1af4, "Red Hat, Inc."},
    {0x1b36, "Red Hat, Inc."},
    {0x8086, "Intel Corporation"},
};

static const struct {
    uint16_t vendor, device;
    const char *name;
} pci_names[] = {
    {0x1000, 0x0012, "53c895a"},
    {0x1013, 0x00b8, "GD 5446"},
    {0x1022, 0x2000, "79c970 [PCnet32 LANCE]"},
    {0x10ec, 0x8139, "RTL-8100/8101L/8139 PCI Fast Ethernet Adapter"},
    {0x15ad, 0x0405, "SVGA II Adapter"},
    {0x15ad, 0x07b0, "VMXNET3 Ethernet Controller"},
    {0x1af4, 0x1000, "Virtio network device"},
    {0x1af4, 0x1001, "Virtio block device"},
    {0x1af4, 0x1002, "Virtio memory balloon"},
    {0x1af4, 0x1003, "Virtio console"},
    {0x1af4, 0x1004, "Virtio SCSI"},
    {0x1af4, 0x1005, "Virtio RNG"},
    {0x1af4, 0x1009, "Virtio filesystem"},
    {0x1af4, 0x1041, "Virtio 1.0 network device"},
    {0x1af4, 0x1042, "Virtio 1.0 block device"},
    {0x1af4, 0x1044, "Virtio 1.0 RNG"},
    {0x1af4, 0x1050, "Virtio 1.0 GPU"},
    {0x1af4, 0x1110, "Inter-VM shared memory"},
    {0x1b36, 0x0001, "QEMU PCI-PCI bridge"},
    {0x1b36, 0x0002, "QEMU PCI 16550A Adapter"},
    {0x1b36, 0x0005, "QEMU PCI Test Device"},
    {0x1b36, 0x0008, "QEMU PCIe Host bridge"},
    {0x1b36, 0x000b, "QEMU PCIe Expander bridge"},
    {0x1b36, 0x000c, "QEMU PCIe Root port"},
    {0x1b36, 0x000d, "QEMU XHCI Host Controller"},
    {0x1b36, 0x0010, "QEMU NVM Express Controller"},
    {0x8086, 0x1004, "82543GC Gigabit Ethernet Controller (Copper)"},
    {0x8086, 0x100e, "82540EM Gigabit Ethernet Controller"},
    {0x8086, 0x100f, "82545EM Gigabit Ethernet Controller (Copper)"},
    {0x8086, 0x10c9, "82576 Gigabit Network Connection"},
    {0x8086, 0x10d3, "82574L Gigabit Network Connection"},
    {0x8086, 0x122d, "430FX - 82437FX TSC [Triton I]"},
    {0x8086, 0x122e, "82371FB PIIX ISA [Triton I]"},
    {0x8086, 0x1237, "440FX - 82441FX PMC [Natoma]"},
    {0x8086, 0x2415, "82801AA AC'97 Audio Controller"},
    {0x8086, 0x244e, "82801 PCI Bridge"},
    {0x8086, 0x2668, "82801FB/FBM/FR/FW/FRW (ICH6 Family) High Definition Audio Controller"},
    {0x8086, 0x2918, "82801IB (ICH9) LPC Interface Controller"},
    {0x8086, 0x2922, "82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller [AHCI mode]"},
    {0x8086, 0x2930, "82801I (ICH9 Family) SMBus Controller"},
    {0x8086, 0x2934, "82801I (ICH9 Family) USB UHCI Controller #1"},
    {0x8086, 0x2935, "82801I (ICH9 Family) USB UHCI Controller #2"},
    {0x8086, 0x2936, "82801I (ICH9 Family) USB UHCI Controller #3"},
    {0x8086, 0x293a, "82801I (ICH9 Family) USB2 EHCI Controller #1"},
    {0x8086, 0x293e, "82801I (ICH9 Family) HD Audio Controller"},
    {0x8086, 0x29c0, "82G33/G31/P35/P31 Express DRAM Controller"},
    {0x8086, 0x7000, "82371SB PIIX3 ISA [Natoma/Triton II]"},
    {0x8086, 0x7010, "82371SB PIIX3 IDE [Natoma/Triton II]"},
    {0x8086, 0x7110, "82371AB/EB/MB PIIX4 ISA"},
    {0x8086, 0x7113, "82371AB/EB/MB PIIX4 ACPI"},
};

// Class and subclass; a subclass of 0xff stands for the class as a whole.
static const struct {
    uint16_t code;
    const char *name;
} pci_classes[] = {
    {0x0000, "Non-VGA unclassified device"},
    {0x00ff, "Unclassified device"},
    {0x0100, "SCSI storage controller"},
    {0x0101, "IDE interface"},
    {0x0102, "Floppy disk controller"},
    {0x0104, "RAID bus controller"},
    {0x0105, "ATA controller"},
    {0x0106, "SATA controller"},
    {0x0107, "Serial Attached SCSI controller"},
    {0x0108, "Non-Volatile memory controller"},
    {0x01ff, "Mass storage controller"},
    {0x0200, "Ethernet controller"},
    {0x02ff, "Network controller"},
    {0x0300, "VGA compatible controller"},
    {0x0302, "3D controller"},
    {0x03ff, "Display controller"},
    {0x0400, "Multimedia video controller"},
    {0x0401, "Multimedia audio controller"},
    {0x0403, "Audio device"},
    {0x04ff, "Multimedia controller"},
    {0x0500, "RAM memory"},
    {0x05ff, "Memory controller"},
    {0x0600, "Host bridge"},
    {0x0601, "ISA bridge"},
    {0x0604, "PCI bridge"},
    {0x0607, "CardBus bridge"},
    {0x06ff, "Bridge"},
    {0x0700, "Serial controller"},
    {0x0701, "Parallel controller"},
    {0x07ff, "Communication controller"},
    {0x0800, "PIC"},
    {0x0801, "DMA controller"},
    {0x0802, "Timer"},
    {0x0803, "RTC"},
    {0x0804, "PCI Hot-plug controller"},
    {0x0805, "SD Host controller"},
    {0x0806, "IOMMU"},
    {0x08ff, "System peripheral"},
    {0x09ff, "Input device controller"},
    {0x0c00, "FireWire (IEEE 1394)"},
    {0x0c03, "USB controller"},
    {0x0c05, "SMBus"},
    {0x0cff, "Serial bus controller"},
    {0x0dff, "Wireless controller"},
    {0x10ff, "Encryption controller"},
    {0x11ff, "Signal processing controller"},
    {0x12ff, "Processing accelerators"},
    {0xffff, "Unassigned class"},
};

const char *pci_vendor_name(uint16_t vendor)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pci_vendors); i++) {
        if (pci_vendors[i].vendor == vendor) {
            return pci_vendors[i].name;
        }
    }
    return NULL;
}

const char *pci_device_name(uint16_t vendor, uint16_t device)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pci_names); i++) {
        if (pci_names[i].vendor == vendor && pci_names[i].device == device) {
            return pci_names[i].name;
        }
    }
    return NULL;
}

const char *pci_class_name(uint16_t code)
{
    const char *of_class = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(pci_classes); i++) {
        if (pci_classes[i].code == code) {
            return pci_classes[i].name;
        }
        if (pci_classes[i].code == (code | 0xff)) {
            of_class = pci_classes[i].name;
        }
    }
    return of_class;
}
