// `msi`: MSI beside MSI-X, first as PCI has them, then as the devices of this machine have them,
// and each message as the device holds it now.
//
//   MSI     one capability in configuration space: one address, one number; with several messages
//           the device itself counts up the lowest bits of the number, so that all go to one CPU
//   MSI-X   a table in the device's memory: each message has an address, a number and a mask of its
//           own, so each can go to a CPU of its own
//
// The numbers come from the capabilities of each device (PCI 3.0, 6.8). Context: thread, reads
// only.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <irq/desc.h>
#include <pci/pci.h>

// Registers that only this list shows: PCI 3.0, 6.8.1 and 6.8.2.
enum { CAP_MSI = 0x05, CAP_MSIX = 0x11, MSI_CONTROL = 2, MSIX_TABLE = 4, MSIX_PENDING = 8 };

static void msi_show_kinds(struct shell *sh)
{
    static const struct lab_column columns[] = {
        {"", -22}, {"wire (INTx)", -24}, {"MSI", -26}, {"MSI-X", -26}, {NULL, 0}};
    static const char *const rows[][4] = {
        {"most of a device", "1 of 4, shared", "32, a power of two", "2048"},
        {"where they stand", "-", "configuration space", "table in a BAR"},
        {"a CPU for each", "no", "no: one address", "yes: an address each"},
        {"a mask for each", "no", "optional", "yes"},
        {"shared with others", "yes", "no", "no"},
        {"after the data", "not for sure", "yes: a write like it", "yes: a write like it"},
    };

    lab_table(sh, columns);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        lab_row(sh, columns, rows[i]);
    }
}

// "8" and whether with a mask of each and 64-bit addresses; "-" for a device without.
static void msi_describe(const struct pci_dev *dev, char *to, size_t size)
{
    uint16_t at = pci_find_capability(dev, CAP_MSI);
    uint16_t control = at != 0 ? pci_read16(dev, (uint16_t)(at + MSI_CONTROL)) : 0;

    if (at == 0) {
        strscpy(to, "-", size);
        return;
    }
    snprintf(to, size, "%u%s%s", 1u << min(control >> 1 & 7, 5), control & 0x100 ? " masks" : "",
             control & 0x80 ? " 64-bit" : "");
}

static void msix_describe(const struct pci_dev *dev, char *to, size_t size)
{
    uint16_t at = pci_find_capability(dev, CAP_MSIX);

    if (at == 0) {
        strscpy(to, "-", size);
        return;
    }
    uint32_t table = pci_read32(dev, (uint16_t)(at + MSIX_TABLE));
    uint32_t pending = pci_read32(dev, (uint16_t)(at + MSIX_PENDING));
    snprintf(to, size, "%u at BAR %u+0x%x, pending BAR %u+0x%x",
             (pci_read16(dev, (uint16_t)(at + MSI_CONTROL)) & 0x7ffu) + 1, table & 7, table & ~7u,
             pending & 7, pending & ~7u);
}

static void msi_show_devices(struct shell *sh)
{
    static const struct lab_column columns[] = {{"device", -12}, {"driver", -7}, {"uses", -6},
                                                {"now", 4},      {"MSI", -16},   {"MSI-X", -1},
                                                {NULL, 0}};

    lab_table(sh, columns);
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        char msi[32], msix[64], now[12] = "-";
        unsigned count = 0;

        if (dev->pin == 0 && pci_find_capability(dev, CAP_MSI) == 0 &&
            pci_find_capability(dev, CAP_MSIX) == 0) {
            continue; // it never interrupts
        }
        pci_lock_binding();
        const char *driver = dev->dev.driver;
        const char *uses = driver != NULL ? pci_irq_type_name(dev) : "-";
        while (driver != NULL && pci_irq_vector(dev, count) >= 0) {
            count++;
        }
        pci_unlock_binding();
        snprintf(now, sizeof(now), "%u", count);
        msi_describe(dev, msi, sizeof(msi));
        msix_describe(dev, msix, sizeof(msix));
        const char *const row[] = {dev->dev.name, driver != NULL ? driver : "-", uses, now, msi,
                                   msix};
        lab_row(sh, columns, row);
    }
}

// "masked", "masked, waits": as the device has it.
static const char *msi_mask_text(const struct pci_dev *dev, unsigned index, bool masked)
{
    return !masked ? "open" : pci_msi_is_pending(dev, index) ? "masked, waits" : "masked";
}

enum { MSI_CELLS = 8 };

// One message as it stands, but for the device's name. False: it has none of that index.
static bool msi_read_row(const struct pci_dev *dev, unsigned index, char cells[MSI_CELLS][20])
{
    uint64_t address;
    uint32_t data;
    bool masked;
    int irq = pci_irq_vector(dev, index);
    const struct irq_desc *desc = irq >= 0 ? irq_to_desc((unsigned)irq) : NULL;

    if (!pci_msi_read_message(dev, index, &address, &data, &masked) || desc == NULL) {
        return false;
    }
    snprintf(cells[0], sizeof(cells[0]), "%u", index);
    snprintf(cells[1], sizeof(cells[1]), "%d", irq);
    snprintf(cells[2], sizeof(cells[2]), "%u", desc->data.cpu);
    snprintf(cells[3], sizeof(cells[3]), "0x%02x", desc->data.vector);
    snprintf(cells[4], sizeof(cells[4]), "0x%llx", (unsigned long long)address);
    snprintf(cells[5], sizeof(cells[5]), "0x%04x", data);
    strscpy(cells[6], msi_mask_text(dev, index, masked), sizeof(cells[6]));
    snprintf(cells[7], sizeof(cells[7]), "%llu", (unsigned long long)irq_desc_total(desc));
    return true;
}

// Each row under the lock, and said without it: who reads it may be slow.
static void msi_show_messages(struct shell *sh, const struct pci_dev *dev)
{
    static const struct lab_column columns[] = {
        {"device", -12}, {"index", 5}, {"irq", 4},     {"CPU", 4},         {"vector", 6},
        {"address", 10}, {"data", 6},  {"state", -13}, {"interrupts", 10}, {NULL, 0}};
    char cells[MSI_CELLS][20];
    bool more = true;

    for (unsigned i = 0; more; i++) {
        pci_lock_binding();
        more = msi_read_row(dev, i, cells);
        pci_unlock_binding();
        const char *const row[] = {dev->dev.name, cells[0], cells[1], cells[2], cells[3],
                                   cells[4],      cells[5], cells[6], cells[7]};
        if (more && i == 0) {
            shell_printf(sh, "\n");
            lab_table(sh, columns);
        }
        if (more) {
            lab_row(sh, columns, row);
        }
    }
}

static int cmd_msi(struct shell *sh, int argc, char **argv)
{
    if (argc != 1) {
        return shell_usage(sh, "no such argument: %s", argv[1]);
    }
    msi_show_kinds(sh);
    shell_printf(sh, "\n");
    msi_show_devices(sh);
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        msi_show_messages(sh, dev);
    }
    return 0;
}

COMMAND("msi", cmd_msi, "msi",
        "MSI beside MSI-X: what each can, what each device has, each message as it stands");
