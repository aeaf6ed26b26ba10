// lspci: the functions on the PCI bus, as pciutils prints them.
//
// Context: the command's thread. Next: pci_names.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <pci/pci.h>

#include "pci_names.h"

// ---- the line of a function ---------------------------------------------------------------------

enum lspci_names { LSPCI_WORDS, LSPCI_NUMBERS, LSPCI_BOTH };

struct lspci {
    struct shell *sh;
    enum lspci_names names;
    bool verbose, drivers, domain;    // -v, -k, -D
    unsigned dump;                    // -x: how often
    int segment, bus, slot, function; // -1: any
};

static void lspci_show_class(struct text *t, const struct lspci *ls, uint16_t code)
{
    const char *name = pci_class_name(code);
    if (ls->names == LSPCI_NUMBERS) {
        text_printf(t, "%04x", code);
    } else if (name == NULL) {
        text_printf(t, "Class [%04x]", code);
    } else if (ls->names == LSPCI_BOTH) {
        text_printf(t, "%s [%04x]", name, code);
    } else {
        text_puts(t, name);
    }
}

// "Intel Corporation 82540EM ...", "Intel Corporation Device 1234", "Device 1234:5678".
static void lspci_show_device(struct text *t, const struct lspci *ls, uint16_t vendor,
                              uint16_t device, const char *name)
{
    const char *vendor_name = pci_vendor_name(vendor);
    if (ls->names == LSPCI_NUMBERS) {
        text_printf(t, "%04x:%04x", vendor, device);
        return;
    }
    if (vendor_name == NULL) {
        text_printf(t, ls->names == LSPCI_BOTH ? "Device [%04x:%04x]" : "Device %04x:%04x", vendor,
                    device);
        return;
    }
    text_puts(t, vendor_name);
    if (name != NULL) {
        text_printf(t, " %s", name);
    } else if (ls->names == LSPCI_BOTH) {
        text_puts(t, " Device");
    } else {
        text_printf(t, " Device %04x", device);
    }
    if (ls->names == LSPCI_BOTH) {
        text_printf(t, " [%04x:%04x]", vendor, device);
    }
}

static void lspci_show_interface(struct text *t, const struct pci_dev *dev)
{
    static const struct {
        uint32_t class_code;
        const char *name;
    } interfaces[] = {
        {0x010180, "ISA Compatibility mode-only controller, supports bus mastering"},
        {0x010601, "AHCI 1.0"},
        {0x010802, "NVM Express"},
        {0x030000, "VGA controller"},
        {0x060400, "Normal decode"},
        {0x060401, "Subtractive decode"},
        {0x070002, "16550"},
        {0x0c0300, "UHCI"},
        {0x0c0310, "OHCI"},
        {0x0c0320, "EHCI"},
        {0x0c0330, "XHCI"},
    };
    uint8_t interface = (uint8_t)dev->class_code;
    for (unsigned i = 0; i < ARRAY_SIZE(interfaces); i++) {
        if (interfaces[i].class_code == dev->class_code) {
            text_printf(t, " (prog-if %02x [%s])", interface, interfaces[i].name);
            return;
        }
    }
    if (interface != 0) {
        text_printf(t, " (prog-if %02x)", interface);
    }
}

static void lspci_line(struct lspci *ls, const struct pci_dev *dev)
{
    char buffer[256];
    struct text t = TEXT_INIT(buffer);
    if (ls->domain || dev->segment != 0) {
        text_printf(&t, "%04x:", dev->segment);
    }
    text_printf(&t, "%02x:%02x.%u ", dev->bus, dev->slot, dev->function);
    lspci_show_class(&t, ls, (uint16_t)(dev->class_code >> 8));
    text_puts(&t, ": ");
    lspci_show_device(&t, ls, dev->vendor, dev->device, pci_device_name(dev->vendor, dev->device));
    if (dev->revision != 0) {
        text_printf(&t, " (rev %02x)", dev->revision);
    }
    if (ls->verbose) {
        lspci_show_interface(&t, dev);
    }
    shell_printf(ls->sh, "%s\n", buffer);
}

// ---- -v -----------------------------------------------------------------------------------------

// Registers that only this list shows: PCI 3.0, 6.2.
enum { LSPCI_COMMAND = 0x04, LSPCI_STATUS = 0x06, LSPCI_LATENCY = 0x0d };
enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, COMMAND_MASTER = 4, STATUS_66MHZ = 0x20 };

static void lspci_flags(struct lspci *ls, const struct pci_dev *dev)
{
    static const char *const speeds[] = {"fast", "medium", "slow", "??"};
    uint16_t command = pci_read16(dev, LSPCI_COMMAND), status = pci_read16(dev, LSPCI_STATUS);
    shell_printf(ls->sh, "\tFlags: %s%s%s devsel", command & COMMAND_MASTER ? "bus master, " : "",
                 status & STATUS_66MHZ ? "66MHz, " : "", speeds[status >> 9 & 3]);
    if (command & COMMAND_MASTER) {
        shell_printf(ls->sh, ", latency %u", pci_read8(dev, LSPCI_LATENCY));
    }
    int irq = pci_irq_vector(dev, 0); // of the message, where the driver took one
    if (irq >= 0) {
        shell_printf(ls->sh, ", IRQ %d", irq);
    }
    shell_printf(ls->sh, "\n");
}

static void lspci_size(struct text *t, uint64_t size)
{
    static const char units[] = " KMGTPE";
    unsigned unit = 0;
    while (size >= 1024 && size % 1024 == 0 && unit < 6) {
        size /= 1024;
        unit++;
    }
    text_printf(t, " [size=%llu", (unsigned long long)size);
    if (unit != 0) {
        text_putc(t, units[unit]);
    }
    text_putc(t, ']');
}

static void lspci_bars(struct lspci *ls, const struct pci_dev *dev)
{
    uint16_t command = pci_read16(dev, LSPCI_COMMAND);
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        const struct pci_bar *bar = &dev->bars[i];
        char buffer[128];
        struct text t = TEXT_INIT(buffer);
        if (bar->size == 0) {
            continue;
        }
        text_puts(&t, bar->is_port ? "\tI/O ports at " : "\tMemory at ");
        if (bar->base == 0) {
            text_puts(&t, "<unassigned>");
        } else {
            text_printf(&t, bar->is_port ? "%04llx" : "%08llx", (unsigned long long)bar->base);
        }
        if (!bar->is_port) {
            text_printf(&t, " (%s, %sprefetchable)", bar->is_64bit ? "64-bit" : "32-bit",
                        bar->is_prefetchable ? "" : "non-");
        }
        if ((command & (bar->is_port ? COMMAND_IO : COMMAND_MEMORY)) == 0) {
            text_puts(&t, " [disabled]");
        }
        lspci_size(&t, bar->size);
        shell_printf(ls->sh, "%s\n", buffer);
    }
}

static const char *lspci_express_kind(uint16_t flags)
{
    static const char *const kinds[] = {"Endpoint",
                                        "Legacy Endpoint",
                                        NULL,
                                        NULL,
                                        "Root Port (Slot+)",
                                        "Upstream Port",
                                        "Downstream Port (Slot+)",
                                        "PCI-Express to PCI/PCI-X Bridge",
                                        "PCI/PCI-X to PCI-Express Bridge",
                                        "Root Complex Integrated Endpoint",
                                        "Root Complex Event Collector"};
    unsigned kind = flags >> 4 & 15;
    if (kind == 4 || kind == 6) {
        return flags & 0x100 ? kinds[kind] : kind == 4 ? "Root Port (Slot-)" : "Downstream Port";
    }
    return kind < ARRAY_SIZE(kinds) && kinds[kind] != NULL ? kinds[kind] : "Unknown type";
}

static void lspci_capability(struct text *t, const struct pci_dev *dev, uint16_t id,
                             uint16_t offset)
{
    static const struct {
        uint16_t id;
        const char *name;
    } names[] = {
        {0x07, "PCI-X non-bridge device"},
        {0x0c, "Hot-plug capable"},
        {0x13, "PCI Advanced Features"},
        {0x1001, "Advanced Error Reporting"},
        {0x1003, "Device Serial Number"},
        {0x100d, "Access Control Services"},
        {0x100e, "Alternative Routing-ID Interpretation (ARI)"},
        {0x1010, "Single Root I/O Virtualization (SR-IOV)"},
    };
    uint16_t word = pci_read16(dev, (uint16_t)(offset + 2));
    switch (id) {
    case 0x01:
        text_printf(t, "Power Management version %u", word & 7);
        return;
    case 0x05:
        text_printf(t, "MSI: Enable%c Count=%u/%u Maskable%c 64bit%c", word & 1 ? '+' : '-',
                    1u << (word >> 4 & 7), 1u << (word >> 1 & 7), word & 0x100 ? '+' : '-',
                    word & 0x80 ? '+' : '-');
        return;
    case 0x09:
        text_printf(t, "Vendor Specific Information: Len=%02x", word & 0xff);
        return;
    case 0x0d:
        text_printf(t, "Subsystem: %04x:%04x", pci_read16(dev, (uint16_t)(offset + 4)),
                    pci_read16(dev, (uint16_t)(offset + 6)));
        return;
    case 0x10:
        text_printf(t, "Express %s, MSI %02x", lspci_express_kind(word), word >> 9 & 0x1f);
        return;
    case 0x11:
        text_printf(t, "MSI-X: Enable%c Count=%u Masked%c", word & 0x8000 ? '+' : '-',
                    (word & 0x7ff) + 1u, word & 0x4000 ? '+' : '-');
        return;
    case 0x12:
        text_printf(t, "SATA HBA v%u.%u", word >> 4 & 15, word & 15);
        return;
    default:
        break;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i].id == id) {
            text_puts(t, names[i].name);
            return;
        }
    }
    text_printf(t, id < 0x1000 ? "Capability ID %#x" : "Extended Capability ID %#x", id & 0xfff);
}

static void lspci_subsystem(struct lspci *ls, const struct pci_dev *dev)
{
    char buffer[192];
    struct text t = TEXT_INIT(buffer);
    bool is_qemu = dev->subsystem_vendor == 0x1af4 && dev->subsystem_device == 0x1100;
    if (dev->subsystem_vendor != 0 && dev->subsystem_vendor != 0xffff) {
        lspci_show_device(&t, ls, dev->subsystem_vendor, dev->subsystem_device,
                          is_qemu ? "QEMU Virtual Machine" : NULL);
        shell_printf(ls->sh, "\tSubsystem: %s\n", buffer);
    }
}

static void lspci_capabilities(struct lspci *ls, const struct pci_dev *dev)
{
    for (unsigned i = 0; i < dev->cap_count; i++) {
        char buffer[192];
        struct text t = TEXT_INIT(buffer);
        lspci_capability(&t, dev, dev->caps[i].id, dev->caps[i].offset);
        shell_printf(ls->sh, "\tCapabilities: [%02x] %s\n", dev->caps[i].offset, buffer);
    }
}

// -x: the header; -xxx: 256 bytes; -xxxx: all there is.
static void lspci_dump(struct lspci *ls, const struct pci_dev *dev)
{
    unsigned end = ls->dump >= 4 && pci_find_capability(dev, 0x10) != 0 ? 4096
                   : ls->dump >= 3                                      ? 256
                                                                        : 64;
    for (unsigned at = 0; at < end && !shell_interrupted(ls->sh); at += 16) {
        char buffer[64];
        struct text t = TEXT_INIT(buffer);
        text_printf(&t, "%02x:", at);
        for (unsigned i = 0; i < 16; i++) {
            text_printf(&t, " %02x", pci_read8(dev, (uint16_t)(at + i)));
        }
        shell_printf(ls->sh, "%s\n", buffer);
    }
}

static void lspci_details(struct lspci *ls, const struct pci_dev *dev)
{
    if (ls->verbose || ls->drivers) {
        lspci_subsystem(ls, dev);
    }
    if (ls->verbose) {
        lspci_flags(ls, dev);
        lspci_bars(ls, dev);
        if (dev->bus_secondary != 0) {
            shell_printf(ls->sh, "\tBus: primary=%02x, secondary=%02x, subordinate=%02x\n",
                         dev->bus, dev->bus_secondary, dev->bus_subordinate);
        }
        lspci_capabilities(ls, dev);
    }
    const char *driver = READ_ONCE(dev->dev.driver);
    if ((ls->verbose || ls->drivers) && driver != NULL) {
        shell_printf(ls->sh, "\tKernel driver in use: %s\n", driver);
    }
    if (ls->dump != 0) {
        lspci_dump(ls, dev);
    }
    if (ls->verbose || ls->dump != 0) {
        shell_printf(ls->sh, "\n");
    }
}

// ---- -s -----------------------------------------------------------------------------------------

// A hexadecimal number up to `max` before `end`, or nothing ("" and "*": any, -1).
static bool lspci_part(const char *s, const char *end, int max, int *value)
{
    *value = -1;
    if (s == end || (end - s == 1 && *s == '*')) {
        return true;
    }
    int number = 0;
    for (; s < end; s++) {
        int digit = *s >= '0' && *s <= '9'   ? *s - '0'
                    : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10
                    : *s >= 'A' && *s <= 'F' ? *s - 'A' + 10
                                             : -1;
        number = number * 16 + digit;
        if (digit < 0 || number > max) {
            return false;
        }
    }
    *value = number;
    return true;
}

// [[[[domain]:]bus]:][slot][.[function]]
static bool lspci_parse_place(struct lspci *ls, const char *s)
{
    const char *colon = strrchr(s, ':');
    const char *slot = colon == NULL ? s : colon + 1;
    const char *dot = strchr(slot, '.');
    if (colon != NULL) {
        const char *first = strchr(s, ':');
        const char *bus = first == colon ? s : first + 1;
        if ((first != colon && !lspci_part(s, first, 0xffff, &ls->segment)) ||
            !lspci_part(bus, colon, 0xff, &ls->bus)) {
            return false;
        }
    }
    const char *end = slot + strlen(slot);
    return lspci_part(slot, dot == NULL ? end : dot, 0x1f, &ls->slot) &&
           (dot == NULL || lspci_part(dot + 1, end, 7, &ls->function));
}

static bool lspci_wanted(const struct lspci *ls, const struct pci_dev *dev)
{
    return (ls->segment < 0 || ls->segment == dev->segment) &&
           (ls->bus < 0 || ls->bus == dev->bus) && (ls->slot < 0 || ls->slot == dev->slot) &&
           (ls->function < 0 || ls->function == dev->function);
}

// One word of options, as in -nnk or -vs 1f.2. 0, or the exit status after a message.
static int lspci_options(struct lspci *ls, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    for (const char *c = word + 1; *c != '\0'; c++) {
        switch (*c) {
        case 'v':
            ls->verbose = true;
            break;
        case 'k':
            ls->drivers = true;
            break;
        case 'D':
            ls->domain = true;
            break;
        case 'x':
            ls->dump++;
            break;
        case 'n':
            ls->names = ls->names == LSPCI_WORDS ? LSPCI_NUMBERS : LSPCI_BOTH;
            break;
        case 's': {
            const char *place = c[1] != '\0' ? c + 1 : *i + 1 < argc ? argv[++*i] : "?";
            return lspci_parse_place(ls, place)
                       ? 0
                       : shell_usage(ls->sh, "not a place on the bus: %s", place);
        }
        default:
            return shell_usage(ls->sh, "no such option: %s", word);
        }
    }
    return 0;
}

static int cmd_lspci(struct shell *sh, int argc, char **argv)
{
    struct lspci ls = {.sh = sh, .segment = -1, .bus = -1, .slot = -1, .function = -1};
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0') {
            return shell_usage(sh, "no such operand: %s", argv[i]);
        }
        int status = lspci_options(&ls, argc, argv, &i);
        if (status != 0) {
            return status;
        }
    }
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL && !shell_interrupted(sh);
         dev = pci_next(dev)) {
        if (lspci_wanted(&ls, dev)) {
            lspci_line(&ls, dev);
            lspci_details(&ls, dev);
        }
    }
    return 0;
}

COMMAND("lspci", cmd_lspci,
        "lspci [-v] [-k] [-n | -nn] [-x | -xxx | -xxxx] [-D] [-s [[DOMAIN:]BUS:][SLOT][.FUNCTION]]",
        "list the functions on the PCI bus\n-v: with resources, capabilities and driver. -k: with "
        "driver. -n: numbers for names. -nn: both.\n-x: with 64 bytes of configuration space, -xxx "
        "256, -xxxx all.\n-s: only these, in hexadecimal, as in -s 00:1f.2 or -s .0");
