// A CPU whose timer interrupt does not come although it takes others: its sleepers sleep for ever,
// its tick is gone, and nothing says so. It has one of two causes.
//
//   an EOI that did not arrive   A vector of the timer's class or above stays in service, and the
//                                local APIC holds back that class and all below: the timer's, and
//                                every device's
//
//        IRR  ..... 0x35 ... 0x51 ... 0xec .....    have come, and wait
//        ISR  ....................... 0xec .....    was served, says the kernel; not so, says the APIC
//
//   a deadline that did not      The write to the timer's count was lost, or the interrupt was
//
// Neither happens on a sound machine. QEMU loses such a write, rarely, when the map of its memory
// changes under another CPU's access (docs/CAVEATS.md), and a hypervisor's bug or a handler that
// forgets its EOI looks the same.
//
// So when another CPU's timer is long overdue, an NMI goes there: that comes whatever is in
// service. Where it interrupted code that had interrupts on, nothing that holds back the timer can
// be in service: those vectors are the kernel's own, and have their EOI before anything else is
// done (irq_dispatch_system). What is in service there all the same was forgotten, and the NMI ends
// it. A device's vector is left alone: it may be that of a handler that sleeps, which is a mistake
// of another kind and told (kernel/sched/atomic.c), and comes back to send its EOI. Then the
// timer's vector is sent by hand, as one more look at the timers does no harm.
//
// Where nothing is in service the interrupt may just be about to come: the CPU was stopped by its
// host, or the host is late with the timer. So it is lost when it has not come at the next look.
//
// Context: softirq; the questioned CPU in NMI. Previous: watchdog.c.
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <lib/text.h>
#include <x86/frame.h>
#include <x86/lapic.h>
#include <irq/ipi.h>
#include <defer/hrtimer.h>

#include "watchdog_late.h"

enum {
    LATE_NS = 1000 * 1000 * 1000,      // no handler and no section with interrupts off is that long
    LATE_NMI_US = 500 * 1000,          // for the answer
    LATE_AGAIN_NS = 200 * 1000 * 1000, // between two looks, at least
    LATE_VECTORS = 8,
};

// What the questioned CPU found. C of the looker, but for the time of the NMI.
static struct {
    bool interrupts_on;
    unsigned ended;
    uint8_t vectors[LATE_VECTORS];
} late_answer;

// What was late at the last look, of each CPU, and when that was seen first. C of the looker.
static struct late_timer {
    ktime_t due;
    uint64_t seen_ns;
} late_timers[MAX_CPUS];

// It was late before, and has not come since, though the CPU runs.
static bool late_is_lost(unsigned cpu, ktime_t due)
{
    struct late_timer *late = &late_timers[cpu];
    uint64_t now_ns = clock_ns();

    if (late->due != due) {
        *late = (struct late_timer){due, now_ns};
    }
    return now_ns - late->seen_ns >= LATE_AGAIN_NS;
}

static void late_question(const struct frame *frame)
{
    late_answer.interrupts_on = (frame->rflags & CPU_FLAGS_IF) != 0;
    late_answer.ended = late_answer.interrupts_on
                            ? lapic_end_in_service(VECTOR_TIMER, late_answer.vectors, LATE_VECTORS)
                            : 0;
}

static void late_tell(unsigned cpu, uint64_t late_ns)
{
    char line[160];
    struct text t = TEXT_INIT(line);

    for (unsigned i = 0; i < min(late_answer.ended, (unsigned)LATE_VECTORS); i++) {
        text_printf(&t, " 0x%02x", late_answer.vectors[i]);
    }
    if (late_answer.ended > 0) {
        pr_err("watchdog: CPU#%u: its timer is %llu ms late: vector%s was in service, and nobody "
               "served it: the EOI was lost; ended now",
               cpu, (unsigned long long)late_ns / 1000000, line);
    } else {
        pr_err("watchdog: CPU#%u: its timer is %llu ms late, and nothing holds it back: the "
               "interrupt was lost; sent again",
               cpu, (unsigned long long)late_ns / 1000000);
    }
}

void watchdog_rouse(unsigned cpu)
{
    ktime_t due = hrtimer_programmed(cpu), now = ktime_get();
    uint64_t late_ns = due < now ? (uint64_t)(now - due) : 0;

    if (late_ns < LATE_NS || !ipi_nmi_call(cpu, late_question, LATE_NMI_US) ||
        !late_answer.interrupts_on) {
        return; // in time, or with interrupts off: the hard lock-up's business
    }
    if (late_answer.ended == 0 && !late_is_lost(cpu, due)) {
        return;
    }
    late_tell(cpu, late_ns);
    lapic_ipi(cpus[cpu].apic_id, VECTOR_TIMER);
}
