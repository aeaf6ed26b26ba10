// `irq why`: the chain from a device to its handler, each link as the hardware has it now, not as
// the kernel believes it to be; and the first broken one, with the command that mends it.
//
//   device      answers, has a driver, may speak: causes that ask against causes that may
//   PCI         bus master, INTx not disabled
//   pin         where the chipset leads its wire; or: the message is the kernel's
//   IO-APIC     there is one, and its entry: vector, CPU, trigger, mask, remote IRR
//   CPU         online, takes interrupts (IF), local APIC: IRR, ISR, TPR, PPR
//   gate        the IDT entry is the one from boot, the vector leads to this irq
//   core        started, not disabled, a handler, threads; what they said last
//
// A device that asserts its wire says so in its status register, whoever drives it: where nobody
// cared for a line, that finds the one who pulled it.
//
// Context: thread. Reads only.
#include <lib/parse.h>
#include <lib/string.h>
#include <core/clock.h>
#include <x86/ioapic.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <irq/ipi.h>
#include <irq/route.h>
#include <sched/mutex.h>
#include <sched/sleep.h>

#include "irq_walk.h"

enum {
    PCI_COMMAND_OFFSET = 4,
    PCI_COMMAND_MASTER_BIT = 4,
    PCI_COMMAND_INTX_OFF_BIT = 0x400,
    PCI_STATUS_OFFSET = 6,
    PCI_STATUS_INTX_BIT = 8, // it asserts its wire (PCI 3.0, 6.2.3)

    WHY_SETTLE_MS = 20,      // what is only on its way has come by then
    WHY_UNACKED_CALLS = 50,  // calls, the cause unchanged
    WHY_UNACKED_ROUNDS = 50, // of that time, until there are so many: on a busy host it takes some
    WHY_NOBODYS = 3,         // a single one may be a replay (irq mode), or a race
};

// ---- saying it ----------------------------------------------------------------------------------

static void __printf(3, 4) why_ok(struct irq_walk *walk, const char *link, const char *format, ...)
{
    char line[192];
    va_list args;
    struct text t = TEXT_INIT(line);

    if (walk->brief) {
        return;
    }
    va_start(args, format);
    text_vprintf(&t, format, args);
    va_end(args);
    shell_printf(walk->sh, "  ok      %-10s %s\n", link, line);
}

static unsigned why_other_cpu(const struct irq_walk *walk)
{
    for_each_online_cpu (cpu) {
        if (cpu != walk->desc->data.cpu) {
            return cpu;
        }
    }
    return walk->desc->data.cpu;
}

// In a cure, $N is this irq, $D this device, $C its CPU, $O another CPU.
static void why_write_cure(struct irq_walk *walk, const char *cure)
{
    struct text t = TEXT_INIT(walk->cure);

    for (; *cure != '\0'; cure++) {
        if (*cure != '$') {
            text_putc(&t, *cure);
            continue;
        }
        switch (*++cure) {
        case 'N':
            text_printf(&t, "%u", walk->irq);
            break;
        case 'D': // without the segment: 00:02.0
            text_puts(&t, walk->dev != NULL ? walk->dev->dev.name + 5 : "DEVICE");
            break;
        case 'C':
            text_printf(&t, "%u", walk->desc->data.cpu);
            break;
        default:
            text_printf(&t, "%u", why_other_cpu(walk));
            break;
        }
    }
}

// The first broken link is the verdict; those behind it may be broken for its sake.
static void __printf(4, 5)
    why_broken(struct irq_walk *walk, const char *link, const char *cure, const char *format, ...)
{
    char line[192];
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

// ---- device and PCI -----------------------------------------------------------------------------

static void why_cause(struct irq_walk *walk)
{
    struct pci_dev *dev = walk->dev;
    struct pci_irq_state state = {0};

    if (dev->driver->irq_state == NULL) {
        return;
    }
    dev->driver->irq_state(dev, &state);
    if (state.cause != 0 && (state.cause & state.enabled) == 0) {
        why_broken(walk, "cause", "driver unbind $D; driver bind $D",
                   "%s 0x%x asks, but %s 0x%x lets none of it out", state.cause_name, state.cause,
                   state.enabled_name, state.enabled);
    } else if (state.enabled == 0) {
        why_broken(walk, "cause", "driver unbind $D; driver bind $D",
                   "%s is 0: the device may not interrupt at all", state.enabled_name);
    } else {
        why_ok(walk, "cause", "%s 0x%x, %s 0x%x", state.cause_name, state.cause, state.enabled_name,
               state.enabled);
    }
}

// Does the walk go on behind the device?
static bool why_device(struct irq_walk *walk)
{
    struct pci_dev *dev = walk->dev;

    if (dev == NULL) {
        why_ok(walk, "device", "not on the PCI bus: the walk begins at the controller");
        return true;
    }
    uint16_t command = pci_read16(dev, PCI_COMMAND_OFFSET);
    if (command == UINT16_MAX) {
        why_broken(walk, "device", "driver unbind $D", "%s does not answer configuration reads",
                   dev->dev.name);
        return false;
    }
    if (dev->driver == NULL) {
        why_broken(walk, "device", "driver bind $D", "%s answers, but has no driver",
                   dev->dev.name);
        return false;
    }
    why_ok(walk, "device", "%s answers, driver %s", dev->dev.name, dev->dev.driver);
    why_cause(walk);
    if ((command & PCI_COMMAND_MASTER_BIT) == 0) {
        why_broken(walk, "PCI", "irq reset $N",
                   "bus master is off: it can neither do DMA nor send a message");
    }
    if (walk->desc->data.chip == &ioapic_chip && (command & PCI_COMMAND_INTX_OFF_BIT)) {
        why_broken(walk, "PCI", "irq reset $N", "INTx is disabled in its command register");
    }
    return true;
}

// ---- the way to the CPU -------------------------------------------------------------------------

static void why_message(struct irq_walk *walk)
{
    uint64_t address = 0;
    uint32_t data = 0;
    bool masked = false;
    struct irq_data *want = &walk->desc->data;

    if (walk->dev == NULL ||
        !pci_msi_read_message(walk->dev, want->hwirq, &address, &data, &masked)) {
        why_broken(walk, "message", "driver bind $D", "no device holds this message");
        return;
    }
    uint8_t vector = 0;
    uint32_t apic_id = UINT32_MAX;
    if (!pci_msi_is_on(walk->dev)) {
        why_broken(walk, "message", "irq reset $N", "%s is off in the device's capability",
                   pci_irq_type_name(walk->dev));
    } else if (!irq_message_decode(address, data, &vector, &apic_id) || apic_id != want->apic_id ||
               vector != want->vector) {
        why_broken(walk, "message", "irq reset $N",
                   "address 0x%llx, data 0x%x mean vector 0x%02x at APIC %u; the kernel wrote "
                   "vector 0x%02x, APIC %u",
                   (unsigned long long)address, data, vector, apic_id, want->vector, want->apic_id);
    } else if (masked && !walk->desc->masked) {
        why_broken(walk, "message", "irq reset $N", "masked in the device");
    } else {
        why_ok(walk, "message", "address 0x%llx, data 0x%x, as the kernel wrote them",
               (unsigned long long)address, data);
    }
}

static void why_pin(struct irq_walk *walk)
{
    if (walk->dev == NULL) {
        return;
    }
    char pin = walk->dev->pin != 0 ? (char)('A' + walk->dev->pin - 1) : '-';
    int now = pci_route_now(walk->dev);

    if (now != (int)walk->irq) {
        why_broken(walk, "pin", "irq mode $D intx",
                   "the chipset leads INT%c to irq %d now, its handler waits at %u", pin, now,
                   walk->irq);
    } else {
        why_ok(walk, "pin", "INT%c leads to GSI %u", pin, walk->irq);
    }
}

static void why_entry(struct irq_walk *walk, const struct ioapic_entry *entry)
{
    struct irq_data *want = &walk->desc->data;
    bool level_by_pci = walk->dev != NULL;

    if (entry->vector != want->vector || entry->apic_id != (want->apic_id & 0xff) ||
        entry->level != want->level || entry->active_low != want->active_low) {
        why_broken(walk, "IO-APIC", "irq reset $N",
                   "entry says vector 0x%02x, APIC %u, %s; the kernel means 0x%02x, %u, %s",
                   entry->vector, entry->apic_id, entry->level ? "level" : "edge", want->vector,
                   want->apic_id, want->level ? "level" : "edge");
    } else if (entry->masked && !walk->desc->masked) {
        why_broken(walk, "IO-APIC", "irq reset $N",
                   "the entry is masked, and the kernel does not know of it");
    } else if (level_by_pci && !entry->level) {
        why_broken(walk, "trigger", "driver unbind $D; driver bind $D",
                   "a PCI wire is a level, and is requested as an edge: it speaks once, if at all");
    } else if (entry->masked) {
        why_ok(walk, "IO-APIC", "masked by the kernel; why stands below");
    } else {
        why_ok(walk, "IO-APIC", "vector 0x%02x to APIC %u, %s, open", entry->vector, entry->apic_id,
               entry->level ? "level" : "edge");
    }
}

// Where the CPU itself holds the level up (in service, held back by its priority), remote IRR is
// the consequence: that link comes later, and is asked first.
static void why_wire(struct irq_walk *walk, bool cpu_has_it)
{
    struct ioapic_entry entry;

    if (!ioapic_decode(walk->irq, &entry)) {
        why_broken(walk, "IO-APIC", "irq mode $D poll", "no IO-APIC has GSI %u", walk->irq);
        return;
    }
    why_entry(walk, &entry);
    if (!entry.remote_irr || cpu_has_it) {
        return;
    }
    uint64_t before = irq_desc_total(walk->desc);
    msleep(WHY_SETTLE_MS); // an EOI that is on its way will have come by then
    if (ioapic_decode(walk->irq, &entry) && entry.remote_irr &&
        irq_desc_total(walk->desc) == before) {
        why_broken(walk, "IO-APIC", "irq reset $N",
                   "remote IRR is stuck: a CPU took the level and never said EOI");
    }
}

// ---- the CPU's side -----------------------------------------------------------------------------

struct why_cpu {
    uint8_t vector;
    bool asked;
    bool irr, isr;
    uint64_t total; // of the irq's interrupts, before it was asked
    uint8_t tpr, ppr;
    uint8_t highest_isr; // 0: none
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
    c->highest_isr = 0;
    for (unsigned vector = 255; vector >= 32 && c->highest_isr == 0; vector--) {
        c->highest_isr = lapic_isr_test((uint8_t)vector) ? (uint8_t)vector : 0;
    }
    __atomic_store_n(&c->asked, true, __ATOMIC_RELEASE);
}

static void why_judge_cpu(struct irq_walk *walk, const struct why_cpu *c)
{
    unsigned cpu = walk->desc->data.cpu;
    bool stuck = c->irr;

    if (c->irr) { // one that waited when it was asked is no fault if it was taken since
        msleep(WHY_SETTLE_MS);
        stuck = irq_desc_total(walk->desc) == c->total;
    }

    if (c->tpr >> 4 >= c->vector >> 4) {
        why_broken(walk, "local APIC", "apic tpr $C 0",
                   "CPU %u: task priority 0x%02x holds back vector 0x%02x", cpu, c->tpr, c->vector);
    } else if (c->isr) {
        why_broken(walk, "local APIC", "irq reset $N",
                   "CPU %u: vector 0x%02x is in service and was never ended (EOI)", cpu, c->vector);
    } else if (c->highest_isr >> 4 >= c->vector >> 4) {
        why_broken(walk, "local APIC", "irq reset $N",
                   "CPU %u: vector 0x%02x was never ended (EOI) and holds back 0x%02x (PPR 0x%02x)",
                   cpu, c->highest_isr, c->vector, c->ppr);
    } else if (stuck) {
        why_broken(walk, "local APIC", "echo $O > /proc/irq/$N/smp_affinity_list",
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
static struct why_cpu why_answer; // L of why_mutex

static bool why_cpu_answers(struct irq_walk *walk)
{
    unsigned cpu = walk->desc->data.cpu;

    why_answer =
        (struct why_cpu){.vector = walk->desc->data.vector, .total = irq_desc_total(walk->desc)};
    smp_call_function_single(cpu, why_ask_cpu, &why_answer, false);
    for (unsigned ms = 0; ms < 500 && !__atomic_load_n(&why_answer.asked, __ATOMIC_ACQUIRE);
         ms += 4) {
        msleep(4);
    }
    return __atomic_load_n(&why_answer.asked, __ATOMIC_ACQUIRE);
}

static void why_way_locked(struct irq_walk *walk)
{
    unsigned cpu = walk->desc->data.cpu;
    bool online = cpumask_test(&cpu_online_mask, cpu);
    bool answers = online && why_cpu_answers(walk);
    bool held = answers && (why_answer.isr || why_answer.irr);

    if (walk->desc->data.chip == &ioapic_chip) {
        why_pin(walk);
        why_wire(walk, held || !answers);
    } else if (walk->desc->data.chip->is_polled) {
        why_ok(walk, "clock", "the device has no interrupt: a timer asks it (/proc/irq/poll_hz)");
    } else {
        why_message(walk);
    }
    if (!online) {
        why_broken(walk, "CPU", "echo $O > /proc/irq/$N/smp_affinity_list", "%u is not online",
                   cpu);
    } else if (!answers) {
        why_broken(walk, "CPU", "echo $O > /proc/irq/$N/smp_affinity_list",
                   "%u does not answer an IPI: interrupts are off there (IF = 0)", cpu);
    } else {
        why_judge_cpu(walk, &why_answer);
    }
}

static void why_gate(struct irq_walk *walk)
{
    uint8_t vector = walk->desc->data.vector;

    if (!idt_gate_is_good(vector)) {
        why_broken(walk, "gate", "irq reset $N", "gate 0x%02x is not as at boot (idt check)",
                   vector);
    } else if (route_vector_irq(vector) != walk->irq) {
        why_broken(walk, "vector", "driver unbind $D; driver bind $D",
                   "vector 0x%02x does not lead to irq %u", vector, walk->irq);
    } else {
        why_ok(walk, "gate", "vector 0x%02x is as at boot and leads to irq %u", vector, walk->irq);
    }
}

// ---- core and handlers --------------------------------------------------------------------------

// Who pulls this wire? The device's own word.
static struct pci_dev *why_culprit(const struct irq_walk *walk)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        uint16_t command = pci_read16(dev, PCI_COMMAND_OFFSET);
        uint16_t status = pci_read16(dev, PCI_STATUS_OFFSET);

        if (walk->desc->data.chip == &ioapic_chip && dev->irq == (int)walk->irq &&
            command != UINT16_MAX && (command & PCI_COMMAND_INTX_OFF_BIT) == 0 &&
            (status & PCI_STATUS_INTX_BIT) != 0) {
            return dev;
        }
    }
    return NULL;
}

static void why_nobody(struct irq_walk *walk, const char *what, const char *without_culprit)
{
    struct pci_dev *culprit = why_culprit(walk);
    char cure[96];
    struct text t = TEXT_INIT(cure);

    if (culprit == NULL) {
        why_broken(walk, "handlers", without_culprit, "%s", what);
        return;
    }
    if (culprit->driver != NULL) {
        text_printf(&t, "driver unbind %s; irq reset $N", culprit->dev.name + 5);
    } else {
        text_printf(&t, "irq cut %s; irq reset $N", culprit->dev.name + 5);
    }
    why_broken(walk, "handlers", cure, "%s; %s (%s) holds the wire up", what, culprit->dev.name,
               culprit->dev.driver != NULL ? culprit->dev.driver : "no driver");
}

// A cause that stays although its handler is called again and again.
static bool why_is_unacknowledged(const struct irq_walk *walk, uint32_t *cause, uint64_t *calls)
{
    struct pci_irq_state state = {0};
    uint64_t before = irq_desc_total(walk->desc);

    if (walk->dev == NULL || walk->dev->driver == NULL || walk->dev->driver->irq_state == NULL) {
        return false;
    }
    walk->dev->driver->irq_state(walk->dev, &state);
    *cause = state.cause & state.enabled;
    if (*cause == 0) {
        return false;
    }
    for (unsigned round = 0; round < WHY_UNACKED_ROUNDS; round++) {
        msleep(WHY_SETTLE_MS);
        walk->dev->driver->irq_state(walk->dev, &state);
        *calls = irq_desc_total(walk->desc) - before;
        if ((state.cause & *cause) != *cause || *calls >= WHY_UNACKED_CALLS) {
            break;
        }
    }
    return (state.cause & *cause) == *cause && *calls >= WHY_UNACKED_CALLS;
}

static void why_core(struct irq_walk *walk)
{
    struct irq_desc *desc = walk->desc;
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    bool killed = desc->killed, pending = desc->pending;
    unsigned depth = desc->depth, active = desc->threads_active;
    uint32_t count = irq_noted(desc), unhandled = desc->unhandled, cause;
    bool oneshot = desc->oneshot && desc->masked;
    spin_unlock_irqrestore(&desc->lock, flags);
    uint64_t calls;
    char words[96];
    struct text t = TEXT_INIT(words);

    if (killed) {
        why_nobody(walk, "nobody cared: it was shut after too many unhandled interrupts",
                   "irq enable $N");
    } else if (depth != 0) {
        why_broken(walk, "core", "irq enable $N", "disabled, depth %u%s", depth,
                   pending ? ", an edge waits" : "");
    } else if (oneshot && active != 0) {
        why_broken(walk, "core", "ps shows the thread irq/$N-name",
                   "one-shot line, masked until its thread is done");
    } else if (unhandled >= WHY_NOBODYS && unhandled * 10ull >= count * 9ull) {
        text_printf(&t, "%u of the last %u interrupts were nobody's", unhandled, count);
        why_nobody(walk, words, "irq reset $N");
    } else if (why_is_unacknowledged(walk, &cause, &calls)) {
        why_broken(walk, "handlers", "driver unbind $D; driver bind $D",
                   "cause 0x%x stays, although its handler was called %llu times meanwhile: it "
                   "does not acknowledge it",
                   cause, (unsigned long long)calls);
    } else {
        why_ok(walk, "core", "enabled; %llu interrupts so far, %u of the last %u unhandled",
               (unsigned long long)irq_desc_total(desc), unhandled, count);
    }
}

int irq_why(struct irq_walk *walk)
{
    struct irq_desc *desc = walk->desc;

    shell_printf(walk->sh, "irq %u%s%s:\n", walk->irq, walk->dev != NULL ? " of " : "",
                 walk->dev != NULL ? walk->dev->dev.name : "");
    bool answers = why_device(walk);
    if (answers && (!desc->started || desc->action == NULL)) {
        why_broken(walk, "core", "driver bind $D", "no handler: nobody has requested irq %u",
                   walk->irq);
    } else if (answers) {
        mutex_lock(&why_mutex);
        why_way_locked(walk);
        mutex_unlock(&why_mutex);
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
