// `irq`: one interrupt from the device's pin to the handler, in words; and what to do about it.
//
//   irq list                every irq: what it is, where it goes
//   irq types               every device: how it could interrupt, and how it does
//   irq route N|DEVICE      the way of one
//   irq why N|DEVICE        walks that way and names the first broken link, with the cure (irq_why.c)
//   irq check               is all of it as the kernel programmed it? (irq_check.c)
//   irq enable|disable N    as a driver would
//   irq mode DEVICE TYPE    takes a device from its wire to messages and back
//   irq reset N|DEVICE      programs device, controller and CPU anew, as the kernel means them to be
//   irq cut DEVICE          cuts its wire (PCI INTx disable): one that drives a line and has no driver
//   irq shuffle N COUNT     moves it from CPU to CPU so many times, while it fires
//
// Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <x86/ioapic.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <sched/sleep.h>
#include <pci/pci.h>
#include "device.h"
#include "irq_check.h"
#include "irq_walk.h"

// ---- names --------------------------------------------------------------------------------------

static bool irq_dev_has(const struct pci_dev *dev, unsigned irq)
{
    for (unsigned i = 0;; i++) {
        int have = pci_irq_vector(dev, i);
        if (have < 0) {
            return false;
        }
        if ((unsigned)have == irq) {
            return true;
        }
    }
}

static struct pci_dev *irq_device_of(unsigned irq)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (dev->driver != NULL && irq_dev_has(dev, irq)) {
            return dev;
        }
    }
    return NULL;
}

// "24" or "eth0" into a walk. 0, or the status of an error that was said.
static int irq_name(struct shell *sh, const char *name, struct irq_walk *walk)
{
    *walk = (struct irq_walk){.sh = sh};
    if (kstrtou32(name, 10, &walk->irq) == 0) {
        walk->dev = irq_device_of(walk->irq);
    } else {
        walk->dev = shell_find_device(name);
        int irq = walk->dev != NULL ? pci_irq_vector(walk->dev, 0) : -ENODEV;
        if (walk->dev == NULL) {
            return shell_error(sh, "%s: no such device (lspci and ip addr list them)", name);
        }
        if (irq < 0) {
            return shell_error(sh, "%s: it has no interrupt", name);
        }
        walk->irq = (unsigned)irq;
    }
    walk->desc = irq_to_desc(walk->irq);
    if (walk->desc == NULL) {
        return shell_error(sh, "%u: no such irq (irq list shows them)", walk->irq);
    }
    return 0;
}

// ---- list and route -----------------------------------------------------------------------------

static const char *irq_chip_text(const struct irq_desc *desc, char *to, size_t size)
{
    strscpy(to, desc->data.chip != NULL ? desc->data.chip->name : "none", size);
    if (desc->data.chip != NULL && desc->data.chip->irq_show != NULL) {
        desc->data.chip->irq_show(&desc->data, to, size);
    }
    return to;
}

const char *irq_flow_text(const struct irq_desc *desc)
{
    return desc->flow == flow_level ? "level" : desc->flow == flow_edge ? "edge" : "percpu";
}

static int irq_list(struct shell *sh)
{
    shell_printf(sh, "%4s %-22s %5s %6s %4s %-6s %-9s %s\n", "irq", "chip", "hwirq", "vector",
                 "CPU", "flow", "state", "handlers");
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        struct irq_desc *desc = irq_to_desc(irq);
        char chip[40], names[128] = "";
        struct text t = TEXT_INIT(names);
        unsigned long flags;

        if (desc == NULL) {
            continue;
        }
        spin_lock_irqsave(&desc->lock, flags);
        for (const struct irqaction *a = desc->action; a != NULL; a = a->next) {
            text_printf(&t, "%s%s", a == desc->action ? "" : ", ", a->name);
        }
        bool started = desc->started, disabled = desc->depth != 0, masked = desc->masked;
        irq_chip_text(desc, chip, sizeof(chip));
        spin_unlock_irqrestore(&desc->lock, flags);
        shell_printf(sh, "%4u %-22s %5u 0x%02x   %4u %-6s %-9s %s\n", irq, chip, desc->data.hwirq,
                     desc->data.vector, desc->data.cpu, irq_flow_text(desc),
                     !started   ? "unused"
                     : disabled ? "disabled"
                     : masked   ? "masked"
                                : "on",
                     names);
    }
    return 0;
}

static void irq_route_wire(const struct irq_walk *walk)
{
    struct ioapic_entry entry;

    if (!ioapic_decode(walk->irq, &entry)) {
        return;
    }
    shell_printf(walk->sh,
                 "  IO-APIC     GSI %u, pin %u: vector 0x%02x to APIC %u, %s, active %s%s%s%s\n",
                 walk->irq, walk->desc->data.hwirq, entry.vector, entry.apic_id,
                 entry.level ? "level" : "edge", entry.active_low ? "low" : "high",
                 entry.masked ? ", masked" : "", entry.pending ? ", pending" : "",
                 entry.remote_irr ? ", waiting for EOI" : "");
}

static void irq_route_message(const struct irq_walk *walk)
{
    uint64_t address;
    uint32_t data, apic_id = 0;
    uint8_t vector = 0;
    bool masked;

    if (pci_msi_read_message(walk->dev, walk->desc->data.hwirq, &address, &data, &masked)) {
        bool known = irq_message_decode(address, data, &vector, &apic_id);
        shell_printf(
            walk->sh,
            "  message     %s %u: address 0x%llx, data 0x%x%s (APIC %u, vector 0x%02x)%s%s\n",
            pci_irq_type_name(walk->dev), walk->desc->data.hwirq, (unsigned long long)address, data,
            irq_remap != NULL ? ", by the remapping table" : "", apic_id, vector,
            known ? "" : ", NO INTERRUPT", masked ? ", masked" : "");
    }
}

static int irq_route(struct irq_walk *walk)
{
    struct irq_desc *desc = walk->desc;
    char symbol[96];

    shell_printf(walk->sh, "irq %u:\n", walk->irq);
    if (walk->dev != NULL) {
        shell_printf(walk->sh, "  device      %s (%s), %s", walk->dev->dev.name,
                     walk->dev->dev.driver != NULL ? walk->dev->dev.driver : "no driver",
                     pci_irq_type_name(walk->dev));
        if (walk->desc->data.chip == &ioapic_chip && walk->dev->pin != 0) {
            shell_printf(walk->sh, " pin %c", 'A' + walk->dev->pin - 1);
        }
        shell_printf(walk->sh, "\n");
    }
    if (desc->data.chip == &ioapic_chip) {
        irq_route_wire(walk);
    } else if (walk->dev != NULL) {
        irq_route_message(walk);
    }
    struct text t = TEXT_INIT(symbol);
    text_symbol(&t, idt_target(desc->data.vector));
    shell_printf(walk->sh, "  CPU         %u, vector 0x%02x, class %u, gate %s\n", desc->data.cpu,
                 desc->data.vector, desc->data.vector >> 4, symbol);
    shell_printf(walk->sh, "  flow        %s\n", irq_flow_text(desc));
    unsigned long flags;
    char buffer[512];
    struct text list = TEXT_INIT(buffer);
    spin_lock_irqsave(&desc->lock, flags);
    for (const struct irqaction *a = desc->action; a != NULL; a = a->next) {
        text_printf(&list, "  handler     %s: ", a->name);
        text_symbol(&list, (uintptr_t)a->handler);
        text_printf(&list, "%s%s\n", a->thread_fn != NULL ? ", threaded" : "",
                    a->flags & IRQF_SHARED ? ", shared" : "");
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    shell_write(walk->sh, buffer, list.length);
    return 0;
}

// ---- enable, disable, mode ----------------------------------------------------------------------

static int irq_switch(struct irq_walk *walk, bool on)
{
    if (walk->desc->action == NULL) {
        return shell_error(walk->sh, "%u: nobody has requested it", walk->irq);
    }
    if (on && walk->desc->depth == 0) {
        return shell_error(walk->sh, "%u: is enabled already", walk->irq);
    }
    if (on) {
        enable_irq(walk->irq);
    } else {
        disable_irq(walk->irq);
    }
    return 0;
}

// Where the driver cannot be switched while it works, it is taken off and put on again.
static int irq_mode_rebind(struct pci_dev *dev, unsigned types)
{
    unsigned before = dev->irq_types;
    int error = min(pci_unbind(dev), 0);

    dev->irq_types = types;
    error = error == 0 ? pci_bind(dev) : error;
    if (error != 0) { // it cannot: back to what it could
        dev->irq_types = before;
        pci_bind(dev);
    }
    return error;
}

// What it uses now, and of which number.
static const char *irq_mode_now(const struct pci_dev *dev, int *irq)
{
    pci_lock_binding();
    const char *type = pci_irq_type_name(dev);
    *irq = pci_irq_vector(dev, 0);
    pci_unlock_binding();
    return type;
}

static int irq_mode_switch(struct irq_walk *walk, const char *name, unsigned types)
{
    struct pci_dev *dev = walk->dev;
    int old_irq, irq;
    const char *old_type = irq_mode_now(dev, &old_irq), *how = "while it works";
    int error = pci_switch_irq(dev, types != 0 ? types : PCI_IRQ_ALL_TYPES);

    if (error == 0 && types == 0) {
        dev->irq_types = 0;
    }
    if (error == -EOPNOTSUPP) {
        how = "bound anew";
        error = irq_mode_rebind(dev, types);
    }
    const char *type = irq_mode_now(dev, &irq);
    if (error != 0) {
        return shell_error(walk->sh, "%s: cannot use %s: %s; it has %s", dev->dev.name, name,
                           strerror(error), type);
    }
    shell_printf(walk->sh, "%s: %s irq %d -> %s irq %d, %s\n", dev->dev.name, old_type, old_irq,
                 type, irq, how);
    return 0;
}

static int irq_mode(struct irq_walk *walk, const char *type)
{
    static const struct {
        const char *name;
        unsigned types;
    } modes[] = {{"intx", PCI_IRQ_INTX},
                 {"msi", PCI_IRQ_MSI},
                 {"msix", PCI_IRQ_MSIX},
                 {"poll", PCI_IRQ_POLL},
                 {"auto", 0}};
    struct pci_dev *dev = walk->dev;

    if (dev == NULL) {
        return shell_error(walk->sh, "irq %u is not a PCI device's", walk->irq);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        if (strcmp(modes[i].name, type) != 0) {
            continue;
        }
        return irq_mode_switch(walk, modes[i].name, modes[i].types);
    }
    return shell_usage(walk->sh, "no such type: %s (intx, msi, msix, poll, auto)", type);
}

// ---- types, reset, cut, shuffle -----------------------------------------------------------------

// What each device could use. A function without a pin and without either capability never
// interrupts: bridges, mostly.
static int irq_types(struct shell *sh)
{
    shell_printf(sh, "%-13s %-8s %-5s %-30s %-26s %s\n", "device", "driver", "INTx", "MSI", "MSI-X",
                 "now");
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        struct pci_irq_ability can;
        char pin[8] = "-", msi[40] = "-", msix[40] = "-", now[40] = "-";
        const char *driver;

        pci_irq_ability(dev, &can);
        if (dev->pin != 0) {
            snprintf(pin, sizeof(pin), "%c", 'A' + dev->pin - 1);
        }
        if (can.msi_vectors != 0) {
            snprintf(msi, sizeof(msi), "%u, %u-bit%s", can.msi_vectors, can.msi_wide ? 64u : 32u,
                     can.msi_masks ? ", a mask each" : ", no mask");
        }
        if (can.msix_vectors != 0) {
            snprintf(msix, sizeof(msix), "%u, table in BAR %u", can.msix_vectors, can.msix_bar);
        }
        pci_lock_binding();
        driver = dev->dev.driver != NULL ? dev->dev.driver : "-";
        if (dev->driver != NULL) {
            snprintf(now, sizeof(now), "%s, irq %d", pci_irq_type_name(dev),
                     pci_irq_vector(dev, 0));
        }
        pci_unlock_binding();
        shell_printf(sh, "%-13s %-8s %-5s %-30s %-26s %s\n", dev->dev.name, driver, pin, msi, msix,
                     now);
    }
    return 0;
}

static int irq_reset(struct irq_walk *walk)
{
    if (walk->dev != NULL && walk->dev->driver != NULL) {
        pci_set_master(walk->dev);
        pci_intx(walk->dev, walk->desc->data.chip == &ioapic_chip);
    }
    if (!idt_gate_is_good(walk->desc->data.vector)) {
        idt_gate_repair(walk->desc->data.vector);
    }
    int error = irq_reprogram(walk->irq);
    return error == 0 ? 0 : shell_error(walk->sh, "%u: nobody has requested it", walk->irq);
}

static int irq_cut(struct shell *sh, const char *name)
{
    struct pci_dev *dev = shell_find_device(name);

    if (dev == NULL) {
        return shell_error(sh, "%s: no such device (lspci lists them)", name);
    }
    pci_intx(dev, false);
    shell_printf(sh, "%s drives no wire any more\n", dev->dev.name);
    return 0;
}

enum { SHUFFLE_MOST = 10000000, SHUFFLE_BURST = 7 };

static int irq_shuffle(struct irq_walk *walk, const char *text)
{
    uint32_t count, moves = 0;
    unsigned cpu = walk->desc->data.cpu;

    if (kstrtou32(text, 10, &count) != 0 || count > SHUFFLE_MOST) {
        return shell_usage(walk->sh, "how many times? 0 to %u", SHUFFLE_MOST);
    }
    while (moves < count && !shell_interrupted(walk->sh)) {
        struct cpumask mask = {0};

        cpu = cpumask_next(&cpu_online_mask, cpu + 1);
        cpu = cpu == MAX_CPUS ? cpumask_next(&cpu_online_mask, 0) : cpu;
        cpumask_set(&mask, cpu);
        int error = irq_set_affinity(walk->irq, &mask);
        if (error != 0) {
            return shell_error(walk->sh, "%u: to CPU %u: %s", walk->irq, cpu, strerror(error));
        }
        if (++moves % SHUFFLE_BURST == 0) {
            msleep(1); // a tick, in which interrupts come; odd, so that it rests on each CPU
        }
    }
    irq_set_affinity(walk->irq, &cpu_online_mask);
    shell_printf(walk->sh, "irq %u: moved %u times\n", walk->irq, moves);
    return 0;
}

// Those that look at a device while it keeps its driver. NULL: it is none of these.
static int (*irq_look(const char *word))(struct irq_walk *walk)
{
    return strcmp(word, "route") == 0   ? irq_route
           : strcmp(word, "why") == 0   ? irq_why
           : strcmp(word, "reset") == 0 ? irq_reset
                                        : NULL;
}

// One irq, or all those of a device that are requested. The worst status.
static int irq_look_at(struct irq_walk *walk, int (*look)(struct irq_walk *walk), bool whole_device)
{
    walk->brief = whole_device && pci_irq_vector(walk->dev, 1) >= 0;
    int status = look(walk);
    for (unsigned i = 1; whole_device && pci_irq_vector(walk->dev, i) >= 0; i++) {
        walk->irq = (unsigned)pci_irq_vector(walk->dev, i);
        walk->desc = irq_to_desc(walk->irq);
        if (walk->desc != NULL && walk->desc->started) {
            walk->broken = 0;
            status = max(status, look(walk));
        }
    }
    return status;
}

static int cmd_irq(struct shell *sh, int argc, char **argv)
{
    struct irq_walk walk;
    uint32_t number;

    if (argc == 1 || (argc == 2 && strcmp(argv[1], "list") == 0)) {
        return irq_list(sh);
    }
    if (argc == 2 && strcmp(argv[1], "check") == 0) {
        return irq_check(sh);
    }
    if (argc == 2 && strcmp(argv[1], "types") == 0) {
        return irq_types(sh);
    }
    if (argc == 3 && strcmp(argv[1], "cut") == 0) {
        return irq_cut(sh, argv[2]);
    }
    if (argc < 3) {
        return shell_usage(sh, "which irq or device?");
    }
    pci_lock_binding();
    int status = irq_name(sh, argv[2], &walk);
    int (*const look)(struct irq_walk * walk) = argc == 3 && status == 0 ? irq_look(argv[1]) : NULL;
    if (look != NULL) {
        status = irq_look_at(&walk, look, kstrtou32(argv[2], 10, &number) != 0);
    }
    pci_unlock_binding();
    if (status != 0 || look != NULL) {
        return status;
    }
    if (argc == 3 && (strcmp(argv[1], "enable") == 0 || strcmp(argv[1], "disable") == 0)) {
        return irq_switch(&walk, argv[1][0] == 'e');
    }
    if (argc == 4 && strcmp(argv[1], "mode") == 0) {
        return irq_mode(&walk, argv[3]);
    }
    if (argc == 4 && strcmp(argv[1], "shuffle") == 0) {
        return irq_shuffle(&walk, argv[3]);
    }
    return shell_usage(sh, "unknown: %s", argv[1]);
}

COMMAND("irq", cmd_irq,
        "irq [list|types|check] | irq route|why|enable|disable|reset N|DEVICE | irq cut DEVICE | "
        "irq shuffle N COUNT | irq mode DEVICE intx|msi|msix|poll|auto",
        "one interrupt from pin to handler: its way, the first broken link, its mode\n"
        "check compares every redirection entry and every message with the kernel's own map\n"
        "DEVICE is eth0, 00:1f.2 or a driver's name: route, why and reset take all of its irqs");
