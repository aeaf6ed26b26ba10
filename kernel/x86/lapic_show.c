// The local APIC of this CPU, for people: /proc/apic, and its errors by name.
//
// Context: any; lapic_error_report: hard irq. Previous: lapic.c.
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/log.h>

#include "lapic_internal.h"

// ---- errors ----

void lapic_error_text(struct text *t, uint32_t status)
{
    text_bits(t, status, lapic_esr_bits);
}

void lapic_error_report(void)
{
    char buffer[128];
    struct text t = TEXT_INIT(buffer);
    text_bits(&t, lapic_error_read(), lapic_esr_bits);
    pr_ratelimited(LOG_ERR, "lapic: CPU %u reports an error: %s", cpu_id(), buffer);
}

// ---- /proc/apic ----

static void lapic_show_lvt(struct text *t, const char *name, enum lapic_reg reg)
{
    uint32_t lvt = lapic_rd(reg);
    static const char *const modes[8] = {"fixed", "?", "SMI", "?", "NMI", "INIT", "?", "ExtINT"};
    text_printf(t, "%-9s vector 0x%02x %-6s ", name, lvt & 0xff, modes[lvt >> 8 & 7]);
    text_bits(t, lvt & ~0x7ffu, lapic_lvt_bits);
    text_putc(t, '\n');
}

static void lapic_show_vectors(struct text *t, const char *name, enum lapic_reg first)
{
    text_printf(t, "%-9s", name);
    unsigned shown = 0;
    for (unsigned vector = 0; vector < 256; vector++) {
        if (lapic_vector_bit(first, (uint8_t)vector)) {
            text_printf(t, " 0x%02x", vector);
            shown++;
        }
    }
    text_puts(t, shown == 0 ? " -\n" : "\n");
}

void lapic_show(struct text *t)
{
    if (!lapic_present) {
        text_puts(t, "no local APIC\n");
        return;
    }
    preempt_disable(); // all of it from the same CPU
    uint32_t version = lapic_rd(LAPIC_VERSION), svr = lapic_rd(LAPIC_SVR);
    text_printf(t, "cpu %u: id %u, %s, version 0x%02x, %u local vectors, %s\n", cpu_id(),
                lapic_id(), lapic_x2apic ? "x2APIC" : "xAPIC", version & 0xff,
                LAPIC_VERSION_MAX_LVT(version) + 1, svr & LAPIC_SVR_ENABLE ? "on" : "off");
    text_printf(t, "priority  task 0x%02x, processor 0x%02x\n", lapic_rd(LAPIC_TPR),
                lapic_rd(LAPIC_PPR));
    text_printf(t, "spurious  vector 0x%02x\n", svr & 0xff);
    lapic_show_lvt(t, "timer", LAPIC_LVT_TIMER);
    lapic_show_lvt(t, "LINT0", LAPIC_LVT_LINT0);
    lapic_show_lvt(t, "LINT1", LAPIC_LVT_LINT1);
    lapic_show_lvt(t, "error", LAPIC_LVT_ERROR);
    text_printf(t, "counter   %u of %u at %llu Hz\n", lapic_rd(LAPIC_TIMER_CURRENT),
                lapic_rd(LAPIC_TIMER_INITIAL), (unsigned long long)lapic_timer_hz());
    lapic_show_vectors(t, "waiting", LAPIC_IRR);
    lapic_show_vectors(t, "served", LAPIC_ISR);
    lapic_show_vectors(t, "level", LAPIC_TMR);
    preempt_enable();
}

static void lapic_proc_show(struct text *t, unsigned long index)
{
    (void)index;
    lapic_show(t);
}
PROC_FILE("apic", lapic_proc_show);
