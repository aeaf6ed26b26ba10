// Reads a function's capability lists: PCI 3.0, 6.7 and PCI Express 3.0, 7.9.
//
//   0x34 ──> [ id | next ]──> [ id | next ]──> 0    conventional: 0x40 to 0xff, dword-aligned
//   0x100 ─> [ id, version, next ]──> ... ──> 0     extended: 0x100 to 0xfff, only through ECAM
//
// Every byte of a list is the device's word, so the walk trusts none: a place outside the area or
// seen before ends it with a note, and a bitmap of places makes sure that it ends.
//
// Pure: called at scan with the real configuration space, and on the host with an evil one.
#include "pci_config.h"
#include "pci_regs.h"

struct cap_walk {
    struct pci_dev *dev;
    struct text *notes;
    uint64_t seen[PCI_CONFIG_EXTENDED_SIZE / 4 / 64];
};

static void pci_note(struct text *notes, const char *text, unsigned offset)
{
    text_printf(notes, "%s%s 0x%x", notes->length == 0 ? "" : "; ", text, offset);
}

// False when the walk must end here.
static bool cap_visit(struct cap_walk *walk, uint16_t offset)
{
    unsigned place = offset / 4;
    if (walk->seen[place / 64] >> (place % 64) & 1) {
        pci_note(walk->notes, "capability list loops at", offset);
        return false;
    }
    walk->seen[place / 64] |= BIT64(place % 64);
    return true;
}

static bool cap_add(struct cap_walk *walk, uint16_t id, uint16_t offset)
{
    struct pci_dev *dev = walk->dev;
    if (dev->cap_count == PCI_MAX_CAPS) {
        pci_note(walk->notes, "too many capabilities, the rest left out from", offset);
        return false;
    }
    dev->caps[dev->cap_count].id = id;
    dev->caps[dev->cap_count].offset = offset;
    dev->cap_count++;
    return true;
}

static void pci_read_conventional(struct cap_walk *walk, const struct pci_config *config)
{
    uint32_t status = config->read32(config->context, PCI_COMMAND) >> 16;
    if ((status & PCI_STATUS_CAPABILITIES) == 0) {
        return;
    }
    // The two low bits of a pointer are reserved and must be masked (6.7).
    uint16_t offset = config->read32(config->context, PCI_CAPABILITIES) & 0xfc;
    while (offset != 0) {
        if (offset < PCI_CAPABILITY_FIRST) {
            pci_note(walk->notes, "capability inside the header at", offset);
            return;
        }
        if (!cap_visit(walk, offset)) {
            return;
        }
        uint32_t header = config->read32(config->context, offset);
        if ((header & 0xff) == 0xff) {
            pci_note(walk->notes, "capability reads all ones at", offset);
            return;
        }
        // Id 0 is a placeholder ("null capability"): nothing to keep, but the list goes on.
        if ((header & 0xff) != 0 && !cap_add(walk, header & 0xff, offset)) {
            return;
        }
        offset = header >> 8 & 0xfc;
    }
}

static void pci_read_extended(struct cap_walk *walk, const struct pci_config *config)
{
    uint16_t offset = PCI_EXTENDED_FIRST;
    if (config->size < PCI_CONFIG_EXTENDED_SIZE) {
        return;
    }
    while (offset != 0) {
        if (offset < PCI_EXTENDED_FIRST) {
            pci_note(walk->notes, "extended capability below 0x100 at", offset);
            return;
        }
        if (!cap_visit(walk, offset)) {
            return;
        }
        uint32_t header = config->read32(config->context, offset);
        if (header == 0 || header == UINT32_MAX) {
            return; // no list, or a function that has none of this area
        }
        if (!cap_add(walk, (uint16_t)(PCI_EXTENDED_ID(header) + 0x1000), offset)) {
            return;
        }
        offset = PCI_EXTENDED_NEXT(header) & 0xffc;
    }
}

void pci_read_capabilities(struct pci_dev *dev, const struct pci_config *config, struct text *notes)
{
    struct cap_walk walk = {.dev = dev, .notes = notes};
    dev->cap_count = 0;
    pci_read_conventional(&walk, config);
    // Only PCI Express functions have the extended area; others may answer there with an echo of
    // the first 256 bytes.
    if (pci_find_capability(dev, PCI_CAP_EXPRESS) != 0) {
        pci_read_extended(&walk, config);
    }
}

uint16_t pci_find_capability(const struct pci_dev *dev, uint16_t id)
{
    for (unsigned i = 0; i < dev->cap_count; i++) {
        if (dev->caps[i].id == id) {
            return dev->caps[i].offset;
        }
    }
    return 0;
}
