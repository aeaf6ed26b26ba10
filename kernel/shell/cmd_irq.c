// `irq`: one interrupt from the device's pin to the handler, in words; and what to do about it.
//
//   irq list                every irq: what it is, where it goes
//   irq route N|DEVICE      the way of one
//   irq why N|DEVICE        walks that way and names the first broken link, with the cure
//   irq check               is all of it as the kernel programmed it? (irq_check.c)
//   irq enable|disable N    as a driver would
//   irq mode DEVICE TYPE    takes a device from its wire to messages and back
//
// `why` looks at every link as the hardware has it now, not as the kernel believes it to be:
//
//   device      answers, bus master, causes that ask against causes that may (the driver's word)
//   PCI         INTx not disabled, MSI enabled, the message is the kernel's
//   controller  redirection entry: vector, CPU, trigger, mask, remote IRR
//   CPU         online, takes interrupts, local APIC: IRR, ISR, TPR, PPR
//   gate        the IDT entry is the one from boot, the vector leads to this irq
//   core        started, not disabled, handlers, threads, what they said last
//
// Context: thread. Reads only, but for enable, disable and mode.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <x86/ioapic.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <pci/pci.h>
#include "device.h"
#include "irq_check.h"

// What the chain is walked with.
struct irq_walk {
    struct shell *sh;
    unsigned irq;
    struct pci_dev *dev; // NULL: not a PCI device's, or not known
    struct irq_desc *desc;
    unsigned broken;
    char verdict[160], cure[96]; // of the first broken link
};

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

static const char *irq_flow_text(const struct irq_desc *desc)
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

// ---- why: the links -----------------------------------------------------------------------------

static void __printf(3, 4) why_ok(struct irq_walk *walk, const char *link, const char *format, ...)
{
    char line[160];
    va_list args;
    struct text t = TEXT_INIT(line);

    va_start(args, format);
    text_vprintf(&t, format, args);
    va_end(args);
    shell_printf(walk->sh, "  ok      %-10s %s\n", link, line);
}

// The first broken link is the verdict; those behind it may be broken for its sake. In a cure, N is
// this irq and DEVICE this device.
static void why_write_cure(struct irq_walk *walk, const char *cure)
{
    struct text t = TEXT_INIT(walk->cure);

    for (; *cure != '\0'; cure++) {
        if (*cure == 'N' && (cure[1] == '\0' || strchr(";/ ", cure[1]) != NULL)) {
            text_printf(&t, "%u", walk->irq);
        } else if (str_starts(cure, "DEVICE") && walk->dev != NULL) {
            text_puts(&t, walk->dev->dev.name + 5); // without the segment: 00:02.0
            cure += strlen("DEVICE") - 1;
        } else {
            text_putc(&t, *cure);
        }
    }
}

static void __printf(4, 5)
    why_broken(struct irq_walk *walk, const char *link, const char *cure, const char *format, ...)
{
    char line[160];
    va_list args;
    struct text t = TEXT_INIT(line);

    va_start(args, format);
    text_vprintf(&t, format, args);
    va_end(args);
    shell_printf(walk->sh, "  BROKEN  %-10s %s\n", link, line);
    if (walk->broken++ == 0) {
        strscpy(walk->verdict, line, sizeof(walk->verdict));
        why_write_cure(walk, cure);
    }
}

enum { PCI_COMMAND_OFFSET = 4, PCI_COMMAND_MASTER_BIT = 4, PCI_COMMAND_INTX_OFF_BIT = 0x400 };

static void why_device(struct irq_walk *walk)
{
    struct pci_dev *dev = walk->dev;
    struct pci_irq_state state = {0};

    if (dev == NULL) {
        why_ok(walk, "device", "not on the PCI bus: the walk begins at the controller");
        return;
    }
    uint16_t command = pci_read16(dev, PCI_COMMAND_OFFSET);
    if (command == UINT16_MAX) {
        why_broken(walk, "device", "driver unbind DEVICE", "%s does not answer configuration reads",
                   dev->dev.name);
        return;
    }
    if (dev->driver == NULL) {
        why_broken(walk, "device", "driver bind DEVICE", "%s answers, but has no driver",
                   dev->dev.name);
        return;
    }
    why_ok(walk, "device", "%s answers, driver %s", dev->dev.name, dev->dev.driver);
    if (dev->driver->irq_state != NULL) {
        dev->driver->irq_state(dev, &state);
        if (state.cause != 0 && (state.cause & state.enabled) == 0) {
            why_broken(walk, "cause", "driver unbind DEVICE; driver bind DEVICE",
                       "%s 0x%x asks, but %s 0x%x lets none of it out", state.cause_name,
                       state.cause, state.enabled_name, state.enabled);
        } else if (state.enabled == 0) {
            why_broken(walk, "cause", "driver unbind DEVICE; driver bind DEVICE",
                       "%s is 0: the device may not interrupt at all", state.enabled_name);
        } else {
            why_ok(walk, "cause", "%s 0x%x, %s 0x%x", state.cause_name, state.cause,
                   state.enabled_name, state.enabled);
        }
    }
    if ((command & PCI_COMMAND_MASTER_BIT) == 0) {
        why_broken(walk, "PCI", "driver unbind DEVICE; driver bind DEVICE",
                   "bus master is off: it can neither do DMA nor send a message");
    }
    if (dev->msi == NULL && dev->poll == NULL && (command & PCI_COMMAND_INTX_OFF_BIT)) {
        why_broken(walk, "PCI", "irq mode DEVICE intx", "INTx is disabled in its command register");
    }
}

static void why_message(struct irq_walk *walk)
{
    uint64_t address = 0;
    uint32_t data = 0;
    bool masked = false;
    struct irq_data *want = &walk->desc->data;

    if (walk->dev == NULL ||
        !pci_msi_read_message(walk->dev, want->hwirq, &address, &data, &masked)) {
        why_broken(walk, "message", "driver bind DEVICE", "no device holds this message");
        return;
    }
    uint8_t vector = 0;
    uint32_t apic_id = UINT32_MAX;
    if (!irq_message_decode(address, data, &vector, &apic_id) || apic_id != want->apic_id ||
        vector != want->vector) {
        why_broken(walk, "message", "echo CPU > /proc/irq/N/smp_affinity_list writes it anew",
                   "address 0x%llx, data 0x%x mean vector 0x%02x at APIC %u; the kernel wrote "
                   "vector 0x%02x, APIC %u",
                   (unsigned long long)address, data, vector, apic_id, want->vector, want->apic_id);
    } else if (masked && !walk->desc->masked) {
        why_broken(walk, "message", "irq disable N; irq enable N", "masked in the device");
    } else {
        why_ok(walk, "message", "address 0x%llx, data 0x%x, as the kernel wrote them",
               (unsigned long long)address, data);
    }
}

static void why_wire(struct irq_walk *walk)
{
    struct irq_data *want = &walk->desc->data;
    struct ioapic_entry entry;

    if (!ioapic_decode(walk->irq, &entry)) {
        why_broken(walk, "IO-APIC", "none", "no IO-APIC has GSI %u", walk->irq);
        return;
    }
    if (entry.vector != want->vector || entry.apic_id != (want->apic_id & 0xff) ||
        entry.level != want->level || entry.active_low != want->active_low) {
        why_broken(walk, "IO-APIC", "driver unbind DEVICE; driver bind DEVICE",
                   "entry says vector 0x%02x, APIC %u, %s; the kernel means 0x%02x, %u, %s",
                   entry.vector, entry.apic_id, entry.level ? "level" : "edge", want->vector,
                   want->apic_id, want->level ? "level" : "edge");
    } else if (entry.masked && !walk->desc->masked) {
        why_broken(walk, "IO-APIC", "irq disable N; irq enable N",
                   "the entry is masked, and the kernel does not know of it");
    } else if (entry.masked) {
        why_ok(walk, "IO-APIC", "masked by the kernel; why stands below");
    } else {
        why_ok(walk, "IO-APIC", "vector 0x%02x to APIC %u, %s, open", entry.vector, entry.apic_id,
               entry.level ? "level" : "edge");
    }
    if (!entry.remote_irr) {
        return;
    }
    msleep(20); // an EOI that is on its way will have come by then
    if (ioapic_decode(walk->irq, &entry) && entry.remote_irr) {
        why_broken(walk, "IO-APIC", "irq disable N; irq enable N",
                   "remote IRR is stuck: a CPU took the level and never said EOI");
    }
}

// ---- why: the CPU's side ------------------------------------------------------------------------

struct why_cpu {
    uint8_t vector;
    bool asked;
    bool irr, isr;
    uint8_t tpr, ppr;
    bool own_idt;
};

static void why_ask_cpu(void *arg)
{
    struct why_cpu *c = arg;

    c->irr = lapic_irr_test(c->vector);
    c->isr = lapic_isr_test(c->vector);
    c->tpr = lapic_tpr();
    c->ppr = lapic_ppr();
    c->own_idt = idt_is_loaded();
    __atomic_store_n(&c->asked, true, __ATOMIC_RELEASE);
}

static void why_judge_cpu(struct irq_walk *walk, const struct why_cpu *c)
{
    unsigned cpu = walk->desc->data.cpu;

    if (c->tpr >> 4 >= c->vector >> 4) {
        why_broken(walk, "local APIC", "apic tpr CPU 0",
                   "CPU %u: task priority 0x%02x holds back vector 0x%02x", cpu, c->tpr, c->vector);
    } else if (c->isr) {
        why_broken(walk, "local APIC",
                   "none: a handler did not come back, or its EOI was forgotten",
                   "CPU %u: vector 0x%02x is still in service", cpu, c->vector);
    } else if (c->irr) {
        why_broken(walk, "local APIC", "none: it should have been taken",
                   "CPU %u: vector 0x%02x is pending and not taken (PPR 0x%02x)", cpu, c->vector,
                   c->ppr);
    } else {
        why_ok(walk, "CPU", "%u is online and takes interrupts; TPR 0x%02x", cpu, c->tpr);
    }
    if (!c->own_idt) {
        why_broken(walk, "gate", "reboot", "CPU %u has another IDT loaded than the kernel's", cpu);
    }
}

// Asks the CPU itself, by an interrupt: one that does not answer has interrupts off. The answer's
// place outlives a CPU that answers too late, so it is one for all, and one walk at a time may use
// it.
static DEFINE_MUTEX(why_mutex);

static void why_cpu_locked(struct irq_walk *walk)
{
    static struct why_cpu answer; // L of why_mutex
    unsigned cpu = walk->desc->data.cpu;

    if (!cpumask_test(&cpu_online_mask, cpu)) {
        why_broken(walk, "CPU", "echo CPU > /proc/irq/N/smp_affinity_list", "%u is not online",
                   cpu);
        return;
    }
    answer = (struct why_cpu){.vector = walk->desc->data.vector};
    smp_call_function_single(cpu, why_ask_cpu, &answer, false);
    for (unsigned ms = 0; ms < 500 && !__atomic_load_n(&answer.asked, __ATOMIC_ACQUIRE); ms += 4) {
        msleep(4);
    }
    if (!__atomic_load_n(&answer.asked, __ATOMIC_ACQUIRE)) {
        why_broken(walk, "CPU", "look at /proc/trace for what it does",
                   "%u does not answer an IPI: interrupts are off there (IF = 0)", cpu);
        return;
    }
    why_judge_cpu(walk, &answer);
}

static void why_cpu(struct irq_walk *walk)
{
    mutex_lock(&why_mutex);
    why_cpu_locked(walk);
    mutex_unlock(&why_mutex);
}

static void why_gate(struct irq_walk *walk)
{
    uint8_t vector = walk->desc->data.vector;

    if (!idt_gate_is_good(vector)) {
        why_broken(walk, "gate", "reboot", "gate 0x%02x is not as at boot (idt check)", vector);
    } else if (route_vector_irq(vector) != walk->irq) {
        why_broken(walk, "vector", "driver unbind DEVICE; driver bind DEVICE",
                   "vector 0x%02x does not lead to irq %u", vector, walk->irq);
    } else {
        why_ok(walk, "gate", "vector 0x%02x is as at boot and leads to irq %u", vector, walk->irq);
    }
}

static void why_core(struct irq_walk *walk)
{
    struct irq_desc *desc = walk->desc;
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    bool killed = desc->killed, pending = desc->pending;
    unsigned depth = desc->depth, active = desc->threads_active;
    uint32_t count = desc->spurious_count, unhandled = desc->unhandled;
    bool oneshot = desc->oneshot && desc->masked;
    spin_unlock_irqrestore(&desc->lock, flags);
    if (killed) {
        why_broken(walk, "core", "irq enable N",
                   "nobody cared: shut after 99,900 unhandled interrupts of 100,000");
    } else if (depth != 0) {
        why_broken(walk, "core", "irq enable N", "disabled, depth %u%s", depth,
                   pending ? ", an edge waits" : "");
    } else if (oneshot && active != 0) {
        why_broken(walk, "core", "ps shows the thread irq/N-name",
                   "one-shot line, masked until its thread is done");
    } else if (unhandled != 0 && unhandled == count) {
        why_broken(walk, "handlers", "the wrong handlers sit on this irq: irq route N",
                   "none of the last %u interrupts was anybody's", count);
    } else {
        why_ok(walk, "core", "enabled; %llu interrupts so far, %u of the last %u unhandled",
               (unsigned long long)irq_desc_total(desc), unhandled, count);
    }
}

static int irq_why(struct irq_walk *walk)
{
    struct irq_desc *desc = walk->desc;

    shell_printf(walk->sh, "irq %u%s%s:\n", walk->irq, walk->dev != NULL ? " of " : "",
                 walk->dev != NULL ? walk->dev->dev.name : "");
    why_device(walk);
    if (!desc->started || desc->action == NULL) {
        why_broken(walk, "core", "driver bind DEVICE", "no handler: nobody has requested irq %u",
                   walk->irq);
    } else {
        if (desc->data.chip == &ioapic_chip) {
            why_wire(walk);
        } else if (desc->data.chip->is_polled) {
            why_ok(walk, "clock", "the device has no interrupt: it is asked %d times a second", 10);
        } else {
            why_message(walk);
        }
        why_cpu(walk);
        why_gate(walk);
        why_core(walk);
    }
    if (walk->broken == 0) {
        shell_printf(walk->sh, "the chain is whole\n");
        return 0;
    }
    shell_printf(walk->sh, "first broken link: %s\nto mend it: %s\n", walk->verdict, walk->cure);
    return 1;
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

static int irq_mode_switch(struct irq_walk *walk, const char *name, unsigned types)
{
    struct pci_dev *dev = walk->dev;
    unsigned old_irq = walk->irq;
    const char *old_type = pci_irq_type_name(dev), *how = "while it works";
    int error = pci_switch_irq(dev, types != 0 ? types : PCI_IRQ_ALL_TYPES);

    if (error == 0 && types == 0) {
        dev->irq_types = 0;
    }
    if (error == -EOPNOTSUPP) {
        how = "bound anew";
        error = irq_mode_rebind(dev, types);
    }
    if (error != 0) {
        return shell_error(walk->sh, "%s: cannot use %s: %s; it has %s", dev->dev.name, name,
                           strerror(error), pci_irq_type_name(dev));
    }
    shell_printf(walk->sh, "%s: %s irq %u -> %s irq %d, %s\n", dev->dev.name, old_type, old_irq,
                 pci_irq_type_name(dev), pci_irq_vector(dev, 0), how);
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

static int cmd_irq(struct shell *sh, int argc, char **argv)
{
    struct irq_walk walk;

    if (argc == 1 || (argc == 2 && strcmp(argv[1], "list") == 0)) {
        return irq_list(sh);
    }
    if (argc == 2 && strcmp(argv[1], "check") == 0) {
        return irq_check(sh);
    }
    if (argc < 3) {
        return shell_usage(sh, "which irq or device?");
    }
    int status = irq_name(sh, argv[2], &walk);
    if (status != 0) {
        return status;
    }
    if (argc == 3 && strcmp(argv[1], "route") == 0) {
        return irq_route(&walk);
    }
    if (argc == 3 && strcmp(argv[1], "why") == 0) {
        return irq_why(&walk);
    }
    if (argc == 3 && (strcmp(argv[1], "enable") == 0 || strcmp(argv[1], "disable") == 0)) {
        return irq_switch(&walk, argv[1][0] == 'e');
    }
    if (argc == 4 && strcmp(argv[1], "mode") == 0) {
        return irq_mode(&walk, argv[3]);
    }
    return shell_usage(sh, "unknown: %s", argv[1]);
}

COMMAND("irq", cmd_irq,
        "irq [list] | irq check | irq route|why|enable|disable N|DEVICE | irq mode DEVICE "
        "intx|msi|msix|poll|auto",
        "one interrupt from pin to handler: its way, the first broken link, its mode\n"
        "check compares every redirection entry and every message with the kernel's own map\n"
        "DEVICE is eth0, 00:1f.2 or a driver's name");
