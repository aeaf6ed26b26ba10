// A PCI function whose configuration space is random bytes, and whose BARs keep random bits: the
// scan must end, stay inside, and leave everything but the BARs as it was.
//
// links: drivers/pci/pci_caps.c drivers/pci/pci_bars.c kernel/lib/text.c kernel/lib/format.c kernel/lib/string.c

#include <lib/text.h>

#include "../../drivers/pci/pci_config.h"
#include "../../drivers/pci/pci_regs.h"

#include "fuzz.h"

static uint8_t space[4096];
static uint32_t kept[6];
static unsigned reads;

static uint32_t read32(void *context, uint16_t offset)
{
    const struct pci_config *config = context;
    MUST(offset % 4 == 0 && offset + 4 <= config->size && ++reads < 20000);
    return get_le32(&space[offset]);
}

static void write32(void *context, uint16_t offset, uint32_t value)
{
    (void)context;
    if (offset >= PCI_BAR0 && offset < PCI_BAR0 + 24) {
        uint32_t bits = kept[(offset - PCI_BAR0) / 4];
        value = (value & bits) | (get_le32(&space[offset]) & ~bits);
    } else {
        MUST(offset == PCI_COMMAND);
        value = (value & 0xffff) | (get_le32(&space[offset]) & 0xffff0000);
    }
    memcpy(&space[offset], &value, sizeof(value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < sizeof(kept)) {
        return 0;
    }
    memcpy(kept, data, sizeof(kept));
    data += sizeof(kept);
    size -= sizeof(kept);
    memset(space, 0, sizeof(space));
    memcpy(space, data, size < sizeof(space) ? size : sizeof(space));
    uint16_t command = get_le16(&space[PCI_COMMAND]);
    reads = 0;

    struct pci_dev dev = {0};
    struct pci_config config = {
        .read32 = read32, .write32 = write32, .size = size > 256 ? 4096 : 256};
    config.context = &config;
    char notes[256];
    struct text text = TEXT_INIT(notes);
    pci_read_capabilities(&dev, &config, &text);
    pci_read_bars(&dev, &config, 6, &text);

    MUST(dev.cap_count <= ARRAY_SIZE(dev.caps));
    MUST(text.length < sizeof(notes));
    MUST(get_le16(&space[PCI_COMMAND]) == command);
    return 0;
}
