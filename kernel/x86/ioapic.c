// IO-APICs: where the wires end. Each pin has a 64-bit redirection entry that says which vector its
// interrupt becomes, on which CPU, and whether a wire is read by edge or by level.
//
//   device ──wire──> pin n ──redirection entry──> message(vector) ──> local APIC of a CPU
//   GSI = gsi_base + n: the number by which firmware tables, and so the kernel, know the wire
//
// Edge: one message for each rise; a rise while the pin is masked is lost. Level: a message sets
// Remote IRR, which holds the next one back until a CPU's EOI for this vector comes round; if the
// wire is still active then, it starts over. So a level-triggered device that nobody quiets
// interrupts for ever, and one whose EOI is forgotten never again.
//
// Entries are 64 bits behind a 32-bit window: what is changed while the pin is live is either one
// half alone, or masked first.
//
// Intel 82093AA data sheet; ACPI 6.4, 5.2.12.3. Context: ioapic_add at boot; the chip's primitives
// under the irq descriptor's lock with interrupts off.
#include <lib/errno.h>
#include <lib/format.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/io.h>
#include <core/log.h>
#include <core/resource.h>
#include <core/spinlock.h>
#include <x86/ioapic.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>

#include "ioapic_regs.h"

struct ioapic {
    uint32_t id;            // I
    unsigned gsi_base;      // I
    unsigned pins;          // I
    volatile uint8_t *mmio; // I
    struct spinlock lock;   // the pair of windows
};

static struct ioapic ioapics[MAX_IOAPICS]; // I
static unsigned ioapics_used;              // I
static bool ioapic_unwanted;               // I: boot option noapic
uint32_t ioapic_mis_count;

// ---- registers ----

static uint32_t ioapic_rd(struct ioapic *io, unsigned reg)
{
    writel(reg, io->mmio + IOAPIC_SELECT);
    return readl(io->mmio + IOAPIC_WINDOW);
}

static void ioapic_wr(struct ioapic *io, unsigned reg, uint32_t value)
{
    writel(reg, io->mmio + IOAPIC_SELECT);
    writel(value, io->mmio + IOAPIC_WINDOW);
}

static uint64_t ioapic_get(struct ioapic *io, unsigned pin)
{
    unsigned reg = IOAPIC_REG_ENTRIES + 2 * pin;
    unsigned long flags;
    spin_lock_irqsave(&io->lock, flags);
    uint64_t entry = ioapic_rd(io, reg) | (uint64_t)ioapic_rd(io, reg + 1) << 32;
    spin_unlock_irqrestore(&io->lock, flags);
    return entry;
}

// The whole entry. The pin is masked while its two halves disagree; the half with the mask bit is
// the last to be written.
static void ioapic_set(struct ioapic *io, unsigned pin, uint64_t entry)
{
    unsigned reg = IOAPIC_REG_ENTRIES + 2 * pin;
    unsigned long flags;
    spin_lock_irqsave(&io->lock, flags);
    ioapic_wr(io, reg, ioapic_rd(io, reg) | (uint32_t)RTE_MASKED);
    ioapic_wr(io, reg + 1, (uint32_t)(entry >> 32));
    ioapic_wr(io, reg, (uint32_t)entry);
    spin_unlock_irqrestore(&io->lock, flags);
}

// Bits of the low half alone: one write, so the pin stays live.
static void ioapic_change(struct ioapic *io, unsigned pin, uint32_t clear, uint32_t set)
{
    unsigned reg = IOAPIC_REG_ENTRIES + 2 * pin;
    unsigned long flags;
    spin_lock_irqsave(&io->lock, flags);
    ioapic_wr(io, reg, (ioapic_rd(io, reg) & ~clear) | set);
    spin_unlock_irqrestore(&io->lock, flags);
}

// ---- the chip ----

// With remapping, the CPU stands in the table, and the pin names the entry.
static uint64_t ioapic_entry_for(const struct irq_data *data)
{
    if (irq_remap != NULL) {
        return data->vector | (data->active_low ? RTE_ACTIVE_LOW : 0) |
               (data->level ? RTE_LEVEL : 0) | irq_remap_wire(data->irq);
    }
    return data->vector | (data->active_low ? RTE_ACTIVE_LOW : 0) | (data->level ? RTE_LEVEL : 0) |
           (uint64_t)(data->apic_id & 0xff) << RTE_DESTINATION_SHIFT;
}

const uint64_t ioapic_status_bits = RTE_PENDING | RTE_REMOTE_IRR;

uint64_t ioapic_wanted_entry(const struct irq_data *data, bool masked)
{
    return ioapic_entry_for(data) | (masked ? RTE_MASKED : 0);
}

bool ioapic_entry_is_masked(uint64_t entry)
{
    return (entry & RTE_MASKED) != 0;
}

static void ioapic_remap(const struct irq_data *data)
{
    const struct ioapic *io = data->chip_data;

    if (irq_remap != NULL) {
        irq_remap->set(data, irq_remap->ioapic_source(io->id));
    }
}

static void ioapic_irq_startup(struct irq_data *data)
{
    ioapic_remap(data);
    ioapic_set(data->chip_data, data->hwirq, ioapic_entry_for(data));
}

static void ioapic_irq_shutdown(struct irq_data *data)
{
    ioapic_set(data->chip_data, data->hwirq, RTE_MASKED);
    if (irq_remap != NULL) {
        irq_remap->clear(data);
    }
}

static void ioapic_irq_mask(struct irq_data *data)
{
    ioapic_change(data->chip_data, data->hwirq, 0, (uint32_t)RTE_MASKED);
}

static void ioapic_irq_unmask(struct irq_data *data)
{
    ioapic_change(data->chip_data, data->hwirq, (uint32_t)RTE_MASKED, 0);
}

// The early IO-APICs' erratum: a level interrupt that is masked just as it goes out arrives marked
// as an edge. Its EOI is then not broadcast, Remote IRR stays set and the line is dead. Turning the
// pin to edge and back clears it.
static void ioapic_revive(struct irq_data *data)
{
    struct ioapic *io = data->chip_data;
    __atomic_fetch_add(&ioapic_mis_count, 1, __ATOMIC_RELAXED);
    uint32_t masked = (uint32_t)(ioapic_get(io, data->hwirq) & RTE_MASKED);
    ioapic_change(io, data->hwirq, (uint32_t)RTE_LEVEL, (uint32_t)RTE_MASKED);
    ioapic_change(io, data->hwirq, 0, (uint32_t)RTE_LEVEL);
    ioapic_change(io, data->hwirq, (uint32_t)RTE_MASKED, masked);
}

static void ioapic_irq_eoi(struct irq_data *data)
{
    bool arrived_as_edge = data->level && !lapic_tmr_test(data->vector);
    lapic_eoi();
    if (unlikely(arrived_as_edge)) {
        ioapic_revive(data);
    }
}

static int ioapic_irq_set_type(struct irq_data *data)
{
    struct ioapic *io = data->chip_data;
    uint64_t entry = ioapic_get(io, data->hwirq) & ~(RTE_ACTIVE_LOW | RTE_LEVEL);
    entry |= (data->active_low ? RTE_ACTIVE_LOW : 0) | (data->level ? RTE_LEVEL : 0);
    ioapic_remap(data);
    ioapic_set(io, data->hwirq, entry);
    return 0;
}

// The vector is the same on every CPU (design: one flat table), so a move is the destination byte
// alone: one write to the high half, no masking, and no edge is lost.
static int ioapic_irq_set_affinity(struct irq_data *data)
{
    struct ioapic *io = data->chip_data;
    if (irq_remap != NULL) {
        ioapic_remap(data);
        return 0;
    }
    if (data->apic_id > 0xfe) { // wider ones need interrupt remapping
        return -EIO;
    }
    unsigned long flags;
    spin_lock_irqsave(&io->lock, flags);
    ioapic_wr(io, IOAPIC_REG_ENTRIES + 2 * data->hwirq + 1,
              data->apic_id << (RTE_DESTINATION_SHIFT - 32));
    spin_unlock_irqrestore(&io->lock, flags);
    return 0;
}

static void ioapic_irq_show(const struct irq_data *data, char *to, size_t size)
{
    (void)data;
    snprintf(to, size, "%sIO-APIC", irq_remap != NULL ? "IR-" : "");
}

const struct irq_chip ioapic_chip = {
    .name = "IO-APIC",
    .irq_show = ioapic_irq_show,
    .irq_startup = ioapic_irq_startup,
    .irq_shutdown = ioapic_irq_shutdown,
    .irq_mask = ioapic_irq_mask,
    .irq_unmask = ioapic_irq_unmask,
    .irq_eoi = ioapic_irq_eoi,
    .irq_set_type = ioapic_irq_set_type,
    .irq_set_affinity = ioapic_irq_set_affinity,
    .irq_retrigger = lapic_irq_retrigger,
};

// ---- the set of them ----

static bool ioapic_overlaps(unsigned gsi_base, unsigned pins)
{
    for (unsigned i = 0; i < ioapics_used; i++) {
        if (gsi_base < ioapics[i].gsi_base + ioapics[i].pins &&
            ioapics[i].gsi_base < gsi_base + pins) {
            return true;
        }
    }
    return false;
}

int ioapic_add(uint32_t id, phys_t base, uint32_t gsi_base,
               void *(*map)(phys_t address, size_t size))
{
    if (ioapics_used == MAX_IOAPICS) {
        return -ENOSPC;
    }
    if (ioapic_unwanted) {
        pr_warn("ioapic: noapic is refused: the 8259s are not used, so wires have no other way in");
        ioapic_unwanted = false; // said once
    }
    struct ioapic *io = &ioapics[ioapics_used];
    io->mmio = map(base, IOAPIC_MEMORY_SIZE);
    if (io->mmio == NULL) {
        return -ENODEV;
    }
    spin_lock_init(&io->lock, "ioapic");
    uint32_t version = ioapic_rd(io, IOAPIC_REG_VERSION);
    unsigned pins = (version >> 16 & 0xff) + 1;
    // 240 pins is what the registers' numbering has room for; all ones, or zeroes, is what an empty
    // address answers.
    if (version == UINT32_MAX || version == 0 || pins > 240) {
        pr_warn("ioapic: nothing answers at 0x%llx", (unsigned long long)base);
        return -ENODEV;
    }
    if (gsi_base > UINT32_MAX - pins || ioapic_overlaps(gsi_base, pins)) {
        pr_warn("ioapic: id %u claims GSI %u to %u, which another has; left out", id, gsi_base,
                gsi_base + pins - 1);
        return -EINVAL;
    }
    io->id = id;
    io->gsi_base = gsi_base;
    io->pins = pins;
    for (unsigned pin = 0; pin < pins; pin++) { // a loader may leave pins live
        ioapic_set(io, pin, RTE_MASKED);
    }
    char name[24];
    struct text t = TEXT_INIT(name);
    text_printf(&t, "IOAPIC %u", ioapics_used++);
    resource_add(RESOURCE_MEMORY, base, base + 0x3ff, name);
    pr_info("ioapic: id %u, version 0x%x, GSI %u to %u", id, version & 0xff, gsi_base,
            gsi_base + pins - 1);
    return 0;
}

unsigned ioapic_count(void)
{
    return ioapics_used;
}

unsigned ioapic_gsi_end(void)
{
    unsigned end = 0;
    for (unsigned i = 0; i < ioapics_used; i++) {
        end = max(end, ioapics[i].gsi_base + ioapics[i].pins);
    }
    return end;
}

static struct ioapic *ioapic_of(unsigned gsi)
{
    for (unsigned i = 0; i < ioapics_used; i++) {
        if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].pins) {
            return &ioapics[i];
        }
    }
    return NULL;
}

bool ioapic_has_gsi(unsigned gsi)
{
    return ioapic_of(gsi) != NULL;
}

int ioapic_irq_data(unsigned gsi, struct irq_data *data)
{
    struct ioapic *io = ioapic_of(gsi);
    if (io == NULL) {
        return -ENOENT;
    }
    data->hwirq = gsi - io->gsi_base;
    data->chip_data = io;
    data->chip = &ioapic_chip;
    return 0;
}

uint64_t ioapic_read_entry(unsigned gsi)
{
    struct ioapic *io = ioapic_of(gsi);
    return io != NULL ? ioapic_get(io, gsi - io->gsi_base) : 0;
}

bool ioapic_decode(unsigned gsi, struct ioapic_entry *entry)
{
    if (!ioapic_has_gsi(gsi)) {
        return false;
    }
    uint64_t raw = ioapic_read_entry(gsi);
    *entry = (struct ioapic_entry){
        .vector = (uint8_t)(raw & RTE_VECTOR),
        .apic_id = (uint32_t)(raw >> RTE_DESTINATION_SHIFT),
        .masked = (raw & RTE_MASKED) != 0,
        .level = (raw & RTE_LEVEL) != 0,
        .active_low = (raw & RTE_ACTIVE_LOW) != 0,
        .pending = (raw & RTE_PENDING) != 0,
        .remote_irr = (raw & RTE_REMOTE_IRR) != 0,
        .remapped = (raw & IRQ_REMAP_WIRE) != 0 && irq_remap != NULL,
    };
    if (entry->remapped &&
        !irq_remap->get(irq_remap_wire_index(raw), &entry->vector, &entry->apic_id)) {
        entry->vector = 0; // no vector at all: 0 is none of a device's
    }
    return true;
}

uint32_t ioapic_register(unsigned index, unsigned reg)
{
    unsigned long flags;
    spin_lock_irqsave(&ioapics[index].lock, flags);
    uint32_t value = ioapic_rd(&ioapics[index], reg);
    spin_unlock_irqrestore(&ioapics[index].lock, flags);
    return value;
}

void ioapic_register_write(unsigned index, unsigned reg, uint32_t value)
{
    unsigned long flags;
    spin_lock_irqsave(&ioapics[index].lock, flags);
    ioapic_wr(&ioapics[index], reg, value);
    spin_unlock_irqrestore(&ioapics[index].lock, flags);
}

void ioapic_mask_all(void)
{
    for (unsigned i = 0; i < ioapics_used; i++) {
        for (unsigned pin = 0; pin < ioapics[i].pins; pin++) {
            ioapic_change(&ioapics[i], pin, 0, (uint32_t)RTE_MASKED);
        }
    }
}

void ioapic_show(struct text *t)
{
    static const struct bit_name names[] = {
        {(uint32_t)RTE_PENDING, "pending"},
        {(uint32_t)RTE_ACTIVE_LOW, "low"},
        {(uint32_t)RTE_REMOTE_IRR, "remote-irr"},
        {(uint32_t)RTE_LEVEL, "level"},
        {(uint32_t)RTE_MASKED, "masked"},
        {(uint32_t)RTE_LOGICAL, "logical"},
        {0, NULL},
    };
    for (unsigned i = 0; i < ioapics_used; i++) {
        struct ioapic *io = &ioapics[i];
        text_printf(t, "IO-APIC id %u: GSI %u to %u\n", io->id, io->gsi_base,
                    io->gsi_base + io->pins - 1);
        text_puts(t, " GSI  entry             vector  APIC  bits\n");
        for (unsigned pin = 0; pin < io->pins; pin++) {
            uint64_t entry = ioapic_get(io, pin);
            text_printf(t, "%4u  %016llx  0x%02x    %4u  ", io->gsi_base + pin,
                        (unsigned long long)entry, (unsigned)(entry & RTE_VECTOR),
                        (unsigned)(entry >> RTE_DESTINATION_SHIFT));
            text_bits(t, (uint32_t)entry & ~(uint32_t)(RTE_VECTOR | RTE_DELIVERY), names);
            text_putc(t, '\n');
        }
    }
}

static void ioapic_proc_show(struct text *t, unsigned long index)
{
    (void)index;
    ioapic_show(t);
}
PROC_FILE("ioapic", ioapic_proc_show);

BOOT_FLAG("noapic", ioapic_unwanted, "refused with a warning: there is no way without IO-APICs");
