// Reads a function's base address registers: where its registers are and how large the window is
// (PCI 3.0, 6.2.5.1).
//
// A BAR's size is asked by writing ones: bits that the device needs for its own decoding read back
// as zero.
//
//   written   ffffffff
//   read      fffe0000 | flags      -> 128 KiB
//
// While a BAR holds ones it would decode a wrong window, so memory and port decoding are switched
// off around it. The answer is the device's word: a size that is no power of two, a 64-bit BAR
// without a second half, a window that wraps are refused with a note.
//
// Pure: called at scan, and on the host with a made-up configuration space.
#include "pci_config.h"
#include "pci_regs.h"

static uint16_t bar_offset(unsigned bar)
{
    return (uint16_t)(PCI_BAR0 + bar * 4);
}

// Writes ones, reads, puts the old value back.
static uint32_t bar_probe(const struct pci_config *config, unsigned bar, uint32_t old)
{
    config->write32(config->context, bar_offset(bar), UINT32_MAX);
    uint32_t ones = config->read32(config->context, bar_offset(bar));
    config->write32(config->context, bar_offset(bar), old);
    return ones;
}

static void bar_note(struct text *notes, unsigned bar, const char *what)
{
    text_printf(notes, "%sBAR %u %s", notes->length == 0 ? "" : "; ", bar, what);
}

// Takes base and size over if they make sense.
static void bar_set(struct pci_bar *bar, unsigned number, uint64_t base, uint64_t size,
                    struct text *notes)
{
    if (!IS_POWER_OF_2(size)) {
        bar_note(notes, number, "has a size that is no power of two, ignored");
        return;
    }
    if (base != 0 && (base & (size - 1)) != 0) {
        bar_note(notes, number, "is not aligned to its size, ignored");
        return;
    }
    if (base + (size - 1) < base) {
        bar_note(notes, number, "wraps around, ignored");
        return;
    }
    bar->size = size;
    bar->base = base;
}

static void bar_read_port(struct pci_bar *bar, unsigned number, uint32_t old, uint32_t ones,
                          struct text *notes)
{
    bar->is_port = true;
    // A device may leave the upper 16 bits out: PCs have 64 Ki ports (6.2.5.1).
    uint32_t mask = ones & PCI_BAR_PORT_MASK;
    if ((mask & 0xffff) == 0) {
        return;
    }
    uint32_t size = ~(mask | 0xffff0000) + 1;
    uint32_t base = old & PCI_BAR_PORT_MASK;
    if (base > 0xffff) {
        bar_note(notes, number, "lies beyond the last port, ignored");
        return;
    }
    bar_set(bar, number, base, size, notes);
}

// Reads one BAR; returns how many registers it takes.
static unsigned bar_read(struct pci_dev *dev, const struct pci_config *config, unsigned number,
                         unsigned count, struct text *notes)
{
    struct pci_bar *bar = &dev->bars[number];
    uint32_t old = config->read32(config->context, bar_offset(number));
    uint32_t ones = bar_probe(config, number, old);

    if (ones == 0 || (old == UINT32_MAX && ones == UINT32_MAX)) {
        return 1; // not there, or the device does not answer
    }
    if (ones & PCI_BAR_PORT) {
        bar_read_port(bar, number, old, ones, notes);
        return 1;
    }
    uint32_t type = ones & PCI_BAR_TYPE_MASK;
    uint64_t base = old & PCI_BAR_MEMORY_MASK;
    uint64_t mask = ones & PCI_BAR_MEMORY_MASK;
    bar->is_prefetchable = (ones & PCI_BAR_PREFETCHABLE) != 0;
    if (type == PCI_BAR_TYPE_32) {
        mask |= 0xffffffff00000000;
        if ((mask & UINT32_MAX) != 0) {
            bar_set(bar, number, base, ~mask + 1, notes);
        }
        return 1;
    }
    if (type != PCI_BAR_TYPE_64) {
        bar_note(notes, number, "has a reserved type, ignored");
        return 1;
    }
    if (number + 1 == count) {
        bar_note(notes, number, "has 64 bits but is the last, ignored");
        return 1;
    }
    bar->is_64bit = true;
    uint32_t old_high = config->read32(config->context, bar_offset(number + 1));
    base |= (uint64_t)old_high << 32;
    mask |= (uint64_t)bar_probe(config, number + 1, old_high) << 32;
    if (mask != 0) {
        bar_set(bar, number, base, ~mask + 1, notes);
    }
    return 2;
}

void pci_read_bars(struct pci_dev *dev, const struct pci_config *config, unsigned count,
                   struct text *notes)
{
    // The upper half is the status register, whose bits are cleared by ones: write zeroes there.
    uint32_t command = config->read32(config->context, PCI_COMMAND) & 0xffff;
    // A host bridge decodes RAM for everyone: its switches are not touched.
    bool is_host = dev->class_code >> 8 == PCI_CLASS_BRIDGE_HOST;
    if (!is_host) {
        config->write32(config->context, PCI_COMMAND,
                        command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    }
    for (unsigned bar = 0; bar < count && bar < PCI_BAR_COUNT;) {
        bar += bar_read(dev, config, bar, count, notes);
    }
    if (!is_host) {
        config->write32(config->context, PCI_COMMAND, command);
    }
}
