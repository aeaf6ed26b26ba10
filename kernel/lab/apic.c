// `lab tpr`, `lab edge-level`, `lab strays`, `lab latency`: what the interrupt
// controllers do, shown on the ones of this machine.
//
// Context: thread.
#include <contract/boot_option.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <x86/ioapic.h>
#include <x86/lapic.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/soft_line.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <misc/hpet_wire.h>

enum { LAB_WAIT_US = 2 * 1000 * 1000 };

static DEFINE_MUTEX(lab_apic_mutex); // one at a time: the lines below are one for all

struct lab_line {
    int irq;
    uint8_t vector;
    uint32_t calls;   // A
    uint64_t entered; // C: TSC, first thing in the handler
};

static irqreturn_t lab_line_handler(int irq, void *dev_id)
{
    struct lab_line *line = dev_id;
    uint64_t now = rdtsc();

    (void)irq;
    line->entered = now;
    WRITE_ONCE(line->calls, line->calls + 1);
    return IRQ_HANDLED;
}

static bool lab_line_open(struct lab_line *line)
{
    *line = (struct lab_line){.irq = soft_line_open(lab_line_handler, line, "lab")};
    if (line->irq >= 0) {
        line->vector = soft_line_vector(line->irq);
    }
    return line->irq >= 0;
}

static bool lab_line_calls(const struct lab_line *line, uint32_t calls)
{
    return wait_until(READ_ONCE(line->calls) >= calls, LAB_WAIT_US);
}

// ---- lab tpr: two vectors, one held back --------------------------------------------------------

static void lab_tpr_step(struct shell *sh, const char *what, const struct lab_line lines[2])
{
    shell_printf(sh, "%-34s TPR 0x%02x  PPR 0x%02x  ", what, lapic_tpr(), lapic_ppr());
    for (unsigned i = 0; i < 2; i++) {
        shell_printf(sh, " 0x%02x: %s, served %u ", lines[i].vector,
                     lapic_irr_test(lines[i].vector) ? "waits" : "-    ",
                     READ_ONCE(lines[i].calls));
    }
    shell_printf(sh, "\n");
}

static void lab_tpr_show(struct shell *sh, struct lab_line lines[2])
{
    unsigned class = lines[0].vector >> 4;

    shell_printf(sh, "two lines on CPU %u: vector 0x%02x of class %u, vector 0x%02x of class %u\n",
                 cpu_id(), lines[0].vector, class, lines[1].vector, lines[1].vector >> 4);
    lab_tpr_step(sh, "nothing sent", lines);
    lapic_set_tpr((uint8_t)(class << 4));
    lapic_ipi_self(lines[0].vector);
    lapic_ipi_self(lines[1].vector);
    lab_line_calls(&lines[1], 1);
    lab_tpr_step(sh, "both sent, task priority = class", lines);
    lapic_set_tpr((uint8_t)((class - 1) << 4 | 0x0f));
    lab_line_calls(&lines[0], 1);
    lab_tpr_step(sh, "task priority one class lower", lines);
    lapic_set_tpr(0);
    lab_tpr_step(sh, "task priority 0", lines);

    unsigned long flags = local_irq_save();
    lapic_ipi_self(lines[0].vector);
    lapic_ipi_self(lines[0].vector);
    lapic_ipi_self(lines[1].vector);
    wait_until(lapic_irr_test(lines[1].vector), LAB_WAIT_US);
    local_irq_restore(flags);
    lab_line_calls(&lines[0], 2);
    lab_tpr_step(sh, "IF = 0, low twice, high; IF = 1", lines);
    shell_printf(sh,
                 "the higher class came %s; the two of one vector were one bit, and one "
                 "interrupt\n",
                 lines[1].entered < lines[0].entered ? "first" : "LAST");
}

static int lab_tpr(struct shell *sh, int argc, char **argv)
{
    static struct lab_line lines[2]; // L of lab_apic_mutex
    struct cpumask here = {0};
    int status = 0;

    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    mutex_lock(&lab_apic_mutex);
    struct cpumask before = cpu_current()->allowed;
    preempt_disable();
    cpumask_set(&here, cpu_id());
    preempt_enable();
    sched_setaffinity(cpu_current(), &here); // what is printed is one CPU's story
    bool opened[2] = {lab_line_open(&lines[0]), lab_line_open(&lines[1])};
    if (opened[0] && opened[1] && lines[0].vector < lines[1].vector) {
        lab_tpr_show(sh, lines);
    } else if (opened[0] && opened[1]) { // the router deals class by class, and is at its wrap
        struct lab_line swapped[2] = {lines[1], lines[0]};
        status = shell_error(sh, "vectors 0x%02x and 0x%02x came in the wrong order: again, please",
                             swapped[0].vector, swapped[1].vector);
    } else {
        status = shell_error(sh, "no vectors to be had");
    }
    for (unsigned i = 0; i < 2; i++) {
        if (opened[i]) {
            soft_line_close(lines[i].irq, &lines[i]);
        }
    }
    sched_setaffinity(cpu_current(), &before);
    mutex_unlock(&lab_apic_mutex);
    return status;
}

LAB("tpr", lab_tpr, "", "priority classes: two vectors, one held back by TPR, then let in");

// ---- lab edge-level: what each loses, and what it repeats ---------------------------------------

static struct {
    struct hpet_wire wire;
    uint32_t calls, keep; // A; that many calls leave a level up
    bool remote_irr;      // as the handler saw it
} lab_wire;

static irqreturn_t lab_wire_handler(int irq, void *dev_id)
{
    (void)dev_id;
    lab_wire.remote_irr |= lab_wire.wire.level && (ioapic_read_entry((unsigned)irq) & BIT(14)) != 0;
    if (lab_wire.wire.level) {
        if (lab_wire.keep > 0) {
            lab_wire.keep--;
        } else {
            hpet_wire_lower(&lab_wire.wire); // the device's cause: quieted at last
        }
    }
    WRITE_ONCE(lab_wire.calls, lab_wire.calls + 1);
    return IRQ_HANDLED;
}

static void lab_wire_mask(bool masked)
{
    struct irq_desc *desc = irq_to_desc(lab_wire.wire.gsi);
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    if (masked) {
        irq_mask(desc);
    } else {
        irq_unmask(desc);
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

// Pulls the wire once, waits until all is over, and says how many interrupts came of it.
static uint32_t lab_wire_pull(uint32_t expected)
{
    uint32_t before = READ_ONCE(lab_wire.calls);

    hpet_wire_raise(&lab_wire.wire);
    wait_until(READ_ONCE(lab_wire.calls) - before >= expected, expected != 0 ? LAB_WAIT_US : 0);
    hpet_wire_settle(&lab_wire.wire);
    return READ_ONCE(lab_wire.calls) - before;
}

static void lab_wire_show(struct shell *sh, bool level)
{
    static const struct lab_column columns[] = {
        {"trigger", -8}, {"what is done", -44}, {"interrupts", 10}, {NULL, 0}};
    const char *trigger = level ? "level" : "edge";
    char count[16];

    snprintf(count, sizeof(count), "%u", lab_wire_pull(1));
    lab_row(sh, columns, (const char *const[]){trigger, "raised once, and quieted", count});
    if (level) {
        lab_wire.keep = 3;
        snprintf(count, sizeof(count), "%u", lab_wire_pull(4));
        lab_row(sh, columns,
                (const char *const[]){trigger, "raised once, quieted by the 4th handler", count});
    }
    lab_wire_mask(true);
    uint32_t masked = lab_wire_pull(0), before = READ_ONCE(lab_wire.calls);
    snprintf(count, sizeof(count), "%u", masked);
    lab_row(sh, columns, (const char *const[]){trigger, "raised while the pin is masked", count});
    lab_wire_mask(false);
    msleep(10);
    snprintf(count, sizeof(count), "%u", READ_ONCE(lab_wire.calls) - before);
    lab_row(sh, columns, (const char *const[]){trigger, "  and unmasked again", count});
    disable_irq(lab_wire.wire.gsi);
    lab_wire_pull(0);
    before = READ_ONCE(lab_wire.calls);
    enable_irq(lab_wire.wire.gsi);
    msleep(10);
    snprintf(count, sizeof(count), "%u", READ_ONCE(lab_wire.calls) - before);
    lab_row(sh, columns,
            (const char *const[]){trigger, "raised under disable_irq, then enable_irq", count});
}

static int lab_edge_level(struct shell *sh, int argc, char **argv)
{
    const char *why = NULL;

    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    mutex_lock(&lab_apic_mutex);
    for (unsigned level = 0; level < 2 && why == NULL; level++) {
        lab_wire.calls = lab_wire.keep = 0;
        lab_wire.remote_irr = false;
        why = hpet_wire_open(&lab_wire.wire, level != 0, lab_wire_handler, &lab_wire, "lab");
        if (why != NULL) {
            break;
        }
        if (level == 0) {
            shell_printf(sh, "an HPET timer pulls pin %u; request_irq set its type (set_type)\n",
                         lab_wire.wire.gsi);
        }
        lab_wire_show(sh, level != 0);
        if (level != 0) {
            shell_printf(sh,
                         "Remote IRR was %s in the handlers of the level, and is %s after EOI\n",
                         lab_wire.remote_irr ? "set" : "clear",
                         ioapic_read_entry(lab_wire.wire.gsi) & BIT(14) ? "SET" : "clear");
        }
        hpet_wire_close(&lab_wire.wire);
    }
    mutex_unlock(&lab_apic_mutex);
    if (why != NULL) {
        return shell_error(sh, "%s", why);
    }
    shell_printf(sh, "a masked edge is lost in the hardware, so disable_irq leaves edges open and "
                     "remembers one; a level waits\n");
    return 0;
}

LAB("edge-level", lab_edge_level, "",
    "a wire pulled: what an edge loses and a level repeats, masked, disabled, not quieted");

// ---- lab strays: vectors that are nobody's ------------------------------------------------------

static uint32_t lab_spurious_count(void)
{
    uint32_t count = 0;

    for_each_online_cpu (cpu) {
        count += irq_stat_get(IRQ_STAT_SPU, cpu);
    }
    return count;
}

static void lab_stray(struct shell *sh, const char *what, const char *eoi, bool spurious,
                      void (*send)(void))
{
    uint32_t errors = irq_err_count, spurious_before = lab_spurious_count();

    preempt_disable();
    send();
    udelay(100);
    preempt_enable();
    wait_until(irq_err_count != errors || lab_spurious_count() != spurious_before, 1000 * 1000);
    shell_printf(sh, "%-46s %-28s %s %u\n", what, eoi, spurious ? "SPU +" : "ERR +",
                 spurious ? lab_spurious_count() - spurious_before : irq_err_count - errors);
}

static void lab_send_unowned(void)
{
    lapic_ipi_self(VECTOR_FIRST_DEVICE); // the router begins one further on
}

// As the CPU would when the local APIC or an 8259 answers its acknowledge with these: by the gate,
// nothing in service.
static void lab_send_spurious(void)
{
    __asm__ volatile("int $255");
}

static void lab_send_pic7(void)
{
    __asm__ volatile("int $0x27");
}

static void lab_send_pic15(void)
{
    __asm__ volatile("int $0x2f");
}

static void lab_show_errors(struct shell *sh)
{
    char text[128] = "";
    struct text t = TEXT_INIT(text);
    unsigned long flags = local_irq_save();

    lapic_error_read();   // old news
    lapic_register(0x40); // a register that is reserved: 11.5.3, bit 7
    lapic_error_text(&t, lapic_error_read());
    local_irq_restore(flags);
    shell_printf(sh, "a read of a reserved register: ESR %s%s\n", text,
                 strcmp(text, "0x0") == 0 ? " (QEMU's APIC does not mind)" : "");
}

static int lab_strays(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    shell_printf(sh, "%-46s %-28s %s\n", "vector", "EOI", "counted");
    mutex_lock(&lab_apic_mutex);
    lab_stray(sh, "0x30, nobody's, by a message to oneself", "one: it is in service", false,
              lab_send_unowned);
    lab_stray(sh, "0xff, the local APIC's spurious vector", "none: nothing is in service", true,
              lab_send_spurious);
    lab_stray(sh, "0x27, line 7 of the 8259s, masked", "none: it has none in service", false,
              lab_send_pic7);
    lab_stray(sh, "0x2f, line 15 of the 8259s, masked", "the first chip's, if it asks", false,
              lab_send_pic15);
    lab_show_errors(sh);
    mutex_unlock(&lab_apic_mutex);
    return 0;
}

LAB("strays", lab_strays, "",
    "vectors that are nobody's: unowned, spurious, the 8259s' 7 and 15; the APIC's error status");

// ---- lab latency: from the message to the handler -----------------------------------------------

enum { LAB_BINS = 20, LAB_ROUNDS = 1000, LAB_BAR = 40 };

struct lab_histogram {
    uint32_t bins[LAB_BINS]; // [n]: below 2^(n+1) tenths of a microsecond
    uint64_t min_ns, max_ns, sum_ns;
    uint32_t count;
};

static void lab_note(struct lab_histogram *h, uint64_t ns)
{
    unsigned bin = 0;

    while (bin < LAB_BINS - 1 && ns >= (200ull << bin)) {
        bin++;
    }
    h->bins[bin]++;
    h->min_ns = h->count == 0 ? ns : min(h->min_ns, ns);
    h->max_ns = max(h->max_ns, ns);
    h->sum_ns += ns;
    h->count++;
}

static void lab_show_histogram(struct shell *sh, const char *title, const struct lab_histogram *h)
{
    char least[LAB_CELL_SIZE], middle[LAB_CELL_SIZE], most[LAB_CELL_SIZE];

    shell_printf(sh, "%s: %u interrupts, min %s us, avg %s us, max %s us\n", title, h->count,
                 lab_us(least, h->min_ns), lab_us(middle, h->sum_ns / max(h->count, 1u)),
                 lab_us(most, h->max_ns));
    for (unsigned bin = 0; bin < LAB_BINS; bin++) {
        char edge[LAB_CELL_SIZE], bar[LAB_BAR + 1];
        unsigned length = (h->bins[bin] * LAB_BAR + h->count - 1) / max(h->count, 1u);

        if (h->bins[bin] != 0) {
            memset(bar, '#', length);
            bar[length] = '\0';
            shell_printf(sh, "  < %9s us %6u %s\n", lab_us(edge, 200ull << bin), h->bins[bin], bar);
        }
    }
}

// One message, from the store to the command register to the handler's first instruction.
static bool lab_measure(struct lab_line *line, unsigned cpu, struct lab_histogram *h)
{
    uint32_t calls = READ_ONCE(line->calls);

    preempt_disable();
    uint64_t sent = rdtsc();
    soft_line_send(line->irq, cpu);
    bool came = lab_line_calls(line, calls + 1);
    preempt_enable();
    if (came) {
        uint64_t entered = READ_ONCE(line->entered);
        lab_note(h, clock_tsc_to_ns(entered > sent ? entered - sent : 0));
    }
    return came;
}

static int lab_latency(struct shell *sh, int argc, char **argv)
{
    static struct lab_line line; // L of lab_apic_mutex
    uint32_t rounds = LAB_ROUNDS;
    int status = 0;

    if (argc > 2 ||
        (argc == 2 && (kstrtou32(argv[1], 10, &rounds) != 0 || rounds == 0 || rounds > 1000000))) {
        return shell_usage(sh, "COUNT is 1 to 1000000");
    }
    mutex_lock(&lab_apic_mutex);
    if (!lab_line_open(&line)) {
        mutex_unlock(&lab_apic_mutex);
        return shell_error(sh, "no vector to be had");
    }
    for_each_online_cpu (cpu) {
        struct lab_histogram histogram = {0};
        char title[32];

        for (uint32_t i = 0; i < rounds && status == 0; i++) {
            if (!lab_measure(&line, cpu, &histogram)) {
                status = shell_error(sh, "CPU %u does not answer", cpu);
            } else if (i % 64 == 63 && shell_interrupted(sh)) {
                status = 130;
            }
        }
        if (status != 0) {
            break;
        }
        snprintf(title, sizeof(title), "to CPU %u", cpu);
        lab_show_histogram(sh, title, &histogram);
    }
    soft_line_close(line.irq, &line);
    mutex_unlock(&lab_apic_mutex);
    return status;
}

LAB("latency", lab_latency, "[COUNT]",
    "interrupt latency: from the message sent to the handler's first instruction, by CPU");
