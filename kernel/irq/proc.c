// The interrupt core as people and scripts see it: /proc/interrupts and /proc/irq. Columns, widths
// and blanks are Linux's, so that what parses those there parses these.
//
// Context: thread. Descriptors are looked at under their locks, a line at a time.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <x86/ioapic.h>
#include <irq/desc.h>
#include <irq/route.h>

// ---- /proc/interrupts ----

// Width of the first column: 3, and one more for each digit of the count of irqs beyond three.
static int irq_proc_width(void)
{
    int width = 3;
    for (unsigned limit = 1000; limit <= irq_count(); limit *= 10) {
        width++;
    }
    return width;
}

static const char *irq_flow_name(const struct irq_desc *desc)
{
    return desc->flow == flow_level ? "fasteoi" : desc->flow == flow_percpu ? "percpu" : "edge";
}

static void irq_show_line(struct text *t, struct irq_desc *desc, int width)
{
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    if (desc->action == NULL && irq_desc_total(desc) == 0) {
        spin_unlock_irqrestore(&desc->lock, flags);
        return;
    }
    char chip[40];
    strscpy(chip, desc->data.chip->name != NULL ? desc->data.chip->name : "-", sizeof(chip));
    if (desc->data.chip->irq_show != NULL) {
        desc->data.chip->irq_show(&desc->data, chip, sizeof(chip));
    }
    text_printf(t, "%*u:", width, desc->data.irq);
    for_each_online_cpu (cpu) {
        text_printf(t, " %10u", READ_ONCE(desc->count[cpu]));
    }
    text_printf(t, " %8s %*u-%-8s", chip, width, desc->data.hwirq, irq_flow_name(desc));
    const char *separator = "  ";
    for (const struct irqaction *action = desc->action; action != NULL; action = action->next) {
        text_printf(t, "%s%s", separator, action->name);
        separator = ", ";
    }
    text_putc(t, '\n');
    spin_unlock_irqrestore(&desc->lock, flags);
}

static void irq_show_stat(struct text *t, enum irq_stat stat, int width)
{
    static const struct {
        const char *name, *meaning;
    } rows[IRQ_STAT_COUNT] = {
        [IRQ_STAT_NMI] = {"NMI", "Non-maskable interrupts"},
        [IRQ_STAT_LOC] = {"LOC", "Local timer interrupts"},
        [IRQ_STAT_SPU] = {"SPU", "Spurious interrupts"},
        [IRQ_STAT_PMI] = {"PMI", "Performance monitoring interrupts"},
        [IRQ_STAT_IWI] = {"IWI", "IRQ work interrupts"},
        [IRQ_STAT_RTR] = {"RTR", "APIC ICR read retries"},
        [IRQ_STAT_RES] = {"RES", "Rescheduling interrupts"},
        [IRQ_STAT_CAL] = {"CAL", "Function call interrupts"},
        [IRQ_STAT_TLB] = {"TLB", "TLB shootdowns"},
        [IRQ_STAT_TRM] = {"TRM", "Thermal event interrupts"},
        [IRQ_STAT_THR] = {"THR", "Threshold APIC interrupts"},
        [IRQ_STAT_MCE] = {"MCE", "Machine check exceptions"},
        [IRQ_STAT_MCP] = {"MCP", "Machine check polls"},
    };
    text_printf(t, "%*s: ", width, rows[stat].name);
    for_each_online_cpu (cpu) {
        text_printf(t, "%10u ", irq_stat_get(stat, cpu));
    }
    text_printf(t, "  %s\n", rows[stat].meaning);
}

static void irq_proc_interrupts(struct text *t, unsigned long index)
{
    (void)index;
    int width = irq_proc_width();
    text_printf(t, "%*s", width + 8, "");
    for_each_online_cpu (cpu) {
        text_printf(t, "CPU%-8u", cpu);
    }
    text_putc(t, '\n');
    unsigned end = irq_count();
    for (unsigned irq = 0; irq < end; irq++) {
        struct irq_desc *desc = irq_to_desc(irq);
        if (desc != NULL) {
            irq_show_line(t, desc, width);
        }
    }
    for (enum irq_stat stat = 0; stat < IRQ_STAT_COUNT; stat++) {
        irq_show_stat(t, stat, width);
    }
    text_printf(t, "%*s: %10u\n", width, "ERR", READ_ONCE(irq_err_count));
    text_printf(t, "%*s: %10u\n", width, "MIS", READ_ONCE(ioapic_mis_count));
}

// ---- /proc/irq ----

static long irq_proc_next(unsigned long from)
{
    for (unsigned long irq = from; irq < MAX_IRQS; irq++) {
        if (irq_to_desc((unsigned)irq) != NULL) {
            return (long)irq;
        }
    }
    return -1;
}

// A mask as it concerns this machine: without CPUs that it does not have.
static struct cpumask irq_possible(const struct cpumask *mask)
{
    struct cpumask result = {0};
    for_each_cpu (cpu, mask) {
        if (cpu < cpu_count) {
            cpumask_set(&result, cpu);
        }
    }
    return result;
}

enum irq_mask_kind { IRQ_WISH, IRQ_EFFECTIVE, IRQ_HINT };

// A copy, taken under the lock. An irq that was never started has the default wish.
static struct cpumask irq_read_mask(unsigned long irq, enum irq_mask_kind kind)
{
    struct cpumask mask = {0};
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    if (desc == NULL) {
        return mask;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    mask = kind == IRQ_WISH        ? desc->affinity
           : kind == IRQ_EFFECTIVE ? desc->effective_affinity
                                   : desc->affinity_hint;
    spin_unlock_irqrestore(&desc->lock, flags);
    if (kind == IRQ_WISH && cpumask_empty(&mask)) {
        mask = irq_default_affinity;
    }
    return irq_possible(&mask);
}

static void irq_show_mask(struct text *t, unsigned long irq, enum irq_mask_kind kind)
{
    struct cpumask mask = irq_read_mask(irq, kind);
    cpumask_show(t, &mask, cpu_count);
    text_putc(t, '\n');
}

static void irq_show_list(struct text *t, unsigned long irq, enum irq_mask_kind kind)
{
    struct cpumask mask = irq_read_mask(irq, kind);
    cpumask_show_list(t, &mask);
    text_putc(t, '\n');
}

static void irq_proc_smp_affinity(struct text *t, unsigned long irq)
{
    irq_show_mask(t, irq, IRQ_WISH);
}

static void irq_proc_smp_affinity_list(struct text *t, unsigned long irq)
{
    irq_show_list(t, irq, IRQ_WISH);
}

static void irq_proc_effective_affinity(struct text *t, unsigned long irq)
{
    irq_show_mask(t, irq, IRQ_EFFECTIVE);
}

static void irq_proc_effective_affinity_list(struct text *t, unsigned long irq)
{
    irq_show_list(t, irq, IRQ_EFFECTIVE);
}

static void irq_proc_affinity_hint(struct text *t, unsigned long irq)
{
    irq_show_mask(t, irq, IRQ_HINT);
}

static void irq_proc_node(struct text *t, unsigned long irq)
{
    (void)irq;
    text_puts(t, "-1\n"); // no memory is nearer than other memory, as far as this kernel knows
}

static void irq_proc_spurious(struct text *t, unsigned long irq)
{
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    if (desc == NULL) {
        return;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    uint32_t count = irq_noted(desc), unhandled = desc->unhandled;
    uint32_t last = desc->last_unhandled_jiffies;
    spin_unlock_irqrestore(&desc->lock, flags);
    text_printf(t, "count %u\nunhandled %u\nlast_unhandled %llu ms\n", count, unhandled,
                (unsigned long long)last * 1000 / HZ);
}

// Who is called, how often it was the right one, and how long it took.
static void irq_proc_handlers(struct text *t, unsigned long irq)
{
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    if (desc == NULL) {
        return;
    }
    unsigned long flags;
    text_puts(t, "# name             handled      total_ns  max_ns handler\n");
    spin_lock_irqsave(&desc->lock, flags);
    for (const struct irqaction *action = desc->action; action != NULL; action = action->next) {
        text_printf(t, "%-18s %8llu %13llu %7llu ", action->name, (unsigned long long)action->count,
                    (unsigned long long)clock_tsc_to_ns(action->cycles),
                    (unsigned long long)clock_tsc_to_ns(action->cycles_max));
        text_symbol(t, (uintptr_t)action->handler);
        if (action->thread_fn != NULL) {
            text_puts(t, " threaded ");
            text_symbol(t, (uintptr_t)action->thread_fn);
        }
        text_putc(t, '\n');
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

// Linux's order of refusals: a chip that cannot, text that is no mask, a mask without a CPU that
// runs.
static int irq_write_affinity(const char *line, unsigned long irq,
                              int (*parse)(const char *, unsigned, struct cpumask *))
{
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    if (desc == NULL || desc->data.chip->irq_set_affinity == NULL) {
        return -EIO;
    }
    struct cpumask mask;
    int err = parse(line, cpu_count, &mask);
    return err != 0 ? err : irq_set_affinity((unsigned)irq, &mask);
}

static int irq_proc_write_affinity(const char *line, unsigned long irq)
{
    return irq_write_affinity(line, irq, cpumask_parse);
}

static int irq_proc_write_affinity_list(const char *line, unsigned long irq)
{
    return irq_write_affinity(line, irq, cpumask_parse_list);
}

static void irq_proc_default_affinity(struct text *t, unsigned long index)
{
    (void)index;
    struct cpumask mask = irq_possible(&irq_default_affinity);
    cpumask_show(t, &mask, cpu_count);
    text_putc(t, '\n');
}

static int irq_proc_write_default(const char *line, unsigned long index)
{
    (void)index;
    struct cpumask mask, online;
    int err = cpumask_parse(line, cpu_count, &mask);
    if (err != 0) {
        return err;
    }
    cpumask_and(&online, &mask, &cpu_online_mask);
    if (cpumask_empty(&online)) {
        return -EINVAL;
    }
    irq_default_affinity = mask;
    return 0;
}

// The empty directories that are named after the handlers: each name once, and only those that a
// path can hold.
static const char *irq_proc_names(unsigned long irq, unsigned k)
{
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    const char *found = NULL;
    if (desc == NULL) {
        return NULL;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    for (const struct irqaction *action = desc->action; action != NULL; action = action->next) {
        bool usable = action->name[0] != '\0' && strchr(action->name, '/') == NULL;
        for (const struct irqaction *before = desc->action; before != action && usable;
             before = before->next) {
            usable = strcmp(before->name, action->name) != 0;
        }
        if (usable && k-- == 0) {
            found = action->name;
            break;
        }
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    return found;
}

PROC_FILE("interrupts", irq_proc_interrupts);
PROC_FILE_RW("irq/default_smp_affinity", irq_proc_default_affinity, irq_proc_write_default);
PROC_FILE_EACH("irq/*/smp_affinity", irq_proc_next, irq_proc_smp_affinity, irq_proc_write_affinity);
PROC_FILE_EACH("irq/*/smp_affinity_list", irq_proc_next, irq_proc_smp_affinity_list,
               irq_proc_write_affinity_list);
PROC_FILE_EACH("irq/*/effective_affinity", irq_proc_next, irq_proc_effective_affinity, NULL);
PROC_FILE_EACH("irq/*/effective_affinity_list", irq_proc_next, irq_proc_effective_affinity_list,
               NULL);
PROC_FILE_EACH("irq/*/affinity_hint", irq_proc_next, irq_proc_affinity_hint, NULL);
PROC_FILE_EACH("irq/*/handlers", irq_proc_next, irq_proc_handlers, NULL);
PROC_FILE_EACH("irq/*/node", irq_proc_next, irq_proc_node, NULL);
PROC_FILE_EACH("irq/*/spurious", irq_proc_next, irq_proc_spurious, NULL);
LINKER_RECORD(proc_file, proc_file, proc_irq_proc_directory) = {
    .path = "irq/*", .next = irq_proc_next, .names = irq_proc_names};
