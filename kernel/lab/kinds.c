// `lab interrupt-kinds`: the same reads, told of by a wire, by MSI, by MSI-X and by a clock.
//
// A message costs the device one write and the CPU no question whose it is; a wire must be asked
// about, quieted at the device (NVMe: INTMS) and may be shared; a clock costs nothing while nothing
// happens and half its period when something does. Which of them a device can have is its own
// affair, so each disk has its own rows.
//
// The driver is bound anew for each kind: the disk goes for a moment, and comes back. Last it gets
// what it had. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <mm/page.h>
#include <irq/desc.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <dev/block.h>
#include <pci/pci.h>

enum { KINDS_READS = 300, KINDS_POLLED_READS = 10, KINDS_SECTORS = 8, KINDS_WAIT_MS = 3000 };

static const struct lab_column kinds_columns[] = {
    {"disk", -8},       {"kind", -6},       {"irqs", 5}, {"irqs/read", 10},
    {"handler us", 11}, LAB_SAMPLE_COLUMNS, {NULL, 0}};

// One line of the table, kept until the end: what drivers say while they are bound would tear it.
enum { KINDS_CELLS = 9, KINDS_ROWS = 8 };
struct kinds_row {
    char cells[KINDS_CELLS][LAB_CELL_SIZE];
};
struct kinds_table {
    struct kinds_row rows[KINDS_ROWS];
    unsigned count;
};

static void kinds_print(struct shell *sh, const struct kinds_table *table)
{
    lab_table(sh, kinds_columns);
    for (unsigned i = 0; i < table->count; i++) {
        const char *cells[KINDS_CELLS];
        for (unsigned k = 0; k < KINDS_CELLS; k++) {
            cells[k] = table->rows[i].cells[k];
        }
        lab_row(sh, kinds_columns, cells);
    }
}

// A device that has a disk, and what it is called.
struct kinds_device {
    const char *disk, *driver;
    struct pci_dev *dev;
};

struct kinds_count {
    uint64_t irqs, cycles;
    unsigned vectors;
};

// Interrupts of all vectors, and the time in their handlers.
static struct kinds_count kinds_counts(const struct pci_dev *dev)
{
    struct kinds_count count = {0};
    for (; pci_irq_vector(dev, count.vectors) >= 0; count.vectors++) {
        struct irq_desc *desc = irq_to_desc((unsigned)pci_irq_vector(dev, count.vectors));
        unsigned long flags;
        if (desc == NULL) {
            continue;
        }
        spin_lock_irqsave(&desc->lock, flags);
        count.irqs += irq_desc_total(desc);
        for (const struct irqaction *a = desc->action; a != NULL; a = a->next) {
            count.cycles += a->cycles;
        }
        spin_unlock_irqrestore(&desc->lock, flags);
    }
    return count;
}

// Disks may come after the driver.
static struct gendisk *kinds_find_disk(const char *name)
{
    struct gendisk *disk = blk_find(name);
    for (unsigned ms = 0; disk == NULL && ms < KINDS_WAIT_MS; ms += 10) {
        msleep(10);
        disk = blk_find(name);
    }
    return disk;
}

static int kinds_bind(struct pci_dev *dev, unsigned types)
{
    if (dev->driver != NULL) {
        pci_unbind(dev);
    }
    dev->irq_types = types;
    return pci_bind(dev);
}

static int kinds_measure(struct shell *sh, const struct kinds_device *d, struct gendisk *disk,
                         void *page, struct kinds_row *row)
{
    static uint64_t values[KINDS_READS]; // L of the lab's mutex
    struct samples samples = {.values = values, .size = KINDS_READS};
    const char *kind = pci_irq_type_name(d->dev);
    unsigned reads = strcmp(kind, "POLL") == 0 ? KINDS_POLLED_READS : KINDS_READS;
    struct kinds_count before = kinds_counts(d->dev);

    for (unsigned i = 0; i < reads && !shell_interrupted(sh); i++) {
        uint64_t start_ns = clock_ns();
        int error = blk_read(disk, i % 64 * KINDS_SECTORS, KINDS_SECTORS, page);
        if (error != 0) {
            return shell_error(sh, "%s: %s", disk->name, strerror(error));
        }
        samples_add(&samples, clock_ns() - start_ns);
    }
    struct kinds_count after = kinds_counts(d->dev);
    uint64_t irqs = after.irqs - before.irqs;
    uint64_t handler_ns = clock_tsc_to_ns(after.cycles - before.cycles) / max(irqs, (uint64_t)1);
    uint64_t hundredths = irqs * 100 / max((uint64_t)samples.count, (uint64_t)1);
    struct lab_sample_cells cells;
    samples_sort(&samples);
    lab_sample_cells(&cells, &samples);
    strscpy(row->cells[1], kind, LAB_CELL_SIZE);
    snprintf(row->cells[2], LAB_CELL_SIZE, "%u", after.vectors);
    snprintf(row->cells[3], LAB_CELL_SIZE, "%llu.%02llu", (unsigned long long)hundredths / 100,
             (unsigned long long)hundredths % 100);
    lab_us(row->cells[4], handler_ns);
    memcpy(row->cells[5], cells.text, sizeof(cells.text));
    return 0;
}

// One kind; a device that cannot have it is said so.
static int kinds_try(struct shell *sh, const struct kinds_device *d, unsigned type, void *page,
                     struct kinds_table *table)
{
    static const char *const names[] = {"INTx", "MSI", "MSI-X", "POLL"};
    struct kinds_row *row = &table->rows[table->count++];

    for (unsigned i = 0; i < KINDS_CELLS; i++) {
        strscpy(row->cells[i], "-", LAB_CELL_SIZE);
    }
    strscpy(row->cells[0], d->disk, LAB_CELL_SIZE);
    strscpy(row->cells[1], names[__builtin_ctz(type)], LAB_CELL_SIZE);
    if (kinds_bind(d->dev, type) != 0) {
        strscpy(row->cells[2], "no", LAB_CELL_SIZE);
        return 0;
    }
    struct gendisk *disk = kinds_find_disk(d->disk);
    if (disk == NULL) {
        return shell_error(sh, "%s did not come back", d->disk);
    }
    int status = kinds_measure(sh, d, disk, page, row);
    blk_put(disk);
    return status;
}

static int kinds_device(struct shell *sh, const struct kinds_device *d, void *page,
                        struct kinds_table *table)
{
    static const unsigned types[] = {PCI_IRQ_INTX, PCI_IRQ_MSI, PCI_IRQ_MSIX, PCI_IRQ_POLL};
    unsigned before = d->dev->irq_types;
    int status = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(types) && status == 0 && !shell_interrupted(sh); i++) {
        status = kinds_try(sh, d, types[i], page, table);
    }
    int error = kinds_bind(d->dev, before);
    if (error != 0) {
        return shell_error(sh, "%s: %s", d->dev->dev.name, strerror(error));
    }
    struct gendisk *disk = kinds_find_disk(d->disk);
    if (disk != NULL) {
        blk_put(disk);
    }
    return status;
}

// The driver's device whose disk is there now.
static bool kinds_find(struct kinds_device *d)
{
    struct gendisk *disk = blk_find(d->disk);
    if (disk == NULL) {
        return false;
    }
    blk_put(disk);
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL && d->dev == NULL; dev = pci_next(dev)) {
        const char *driver = READ_ONCE(dev->dev.driver);
        if (driver != NULL && strcmp(driver, d->driver) == 0) {
            d->dev = dev;
        }
    }
    return d->dev != NULL;
}

static int lab_kinds(struct shell *sh, int argc, char **argv)
{
    static DEFINE_MUTEX(kinds_mutex);
    static struct kinds_table table; // L
    struct kinds_device devices[] = {{.disk = "nvme0n1", .driver = "nvme"},
                                     {.disk = "sda", .driver = "ahci"}};
    unsigned found = 0;
    int status = 0;
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "it takes no argument");
    }
    void *page = alloc_page(GFP_KERNEL);
    if (page == NULL) {
        return shell_error(sh, "no memory");
    }
    mutex_lock(&kinds_mutex);
    table.count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(devices) && status == 0; i++) {
        if (kinds_find(&devices[i])) {
            found++;
            status = kinds_device(sh, &devices[i], page, &table);
        }
    }
    kinds_print(sh, &table);
    mutex_unlock(&kinds_mutex);
    free_page(page);
    return found != 0 ? status : shell_error(sh, "neither nvme0n1 nor sda is there");
}
LAB("interrupt-kinds", lab_kinds, "", "the same reads by a wire, by MSI, by MSI-X and by a clock");
