// Softirqs: the fixed set of bottom halves. Raised by a top half, run by the same CPU with
// interrupts on when the outermost hard interrupt ends (kernel/interrupt.c), when bottom halves are
// enabled again, or by ksoftirqd/N when there is too much: at most SOFTIRQ_MAX_ROUNDS rounds,
// SOFTIRQ_MAX_MS, or until a thread should run.
// Context: any, where a line does not say otherwise.
#pragma once

#include <core/cpu.h>
#include <core/trace.h>
#include <lib/types.h>

enum softirq { // Linux's ten, in order
    HI_SOFTIRQ,
    TIMER_SOFTIRQ,
    NET_TX_SOFTIRQ,
    NET_RX_SOFTIRQ,
    BLOCK_SOFTIRQ,
    IRQ_POLL_SOFTIRQ,
    TASKLET_SOFTIRQ,
    SCHED_SOFTIRQ,
    HRTIMER_SOFTIRQ,
    RCU_SOFTIRQ,
    NR_SOFTIRQS,
    // The pending word has 31 bits; two of those that Linux leaves free are for labs and tests, so
    // that they need not disturb the ten. They are not shown in /proc.
    SPARE_SOFTIRQ = NR_SOFTIRQS,
    SPARE2_SOFTIRQ,
    SOFTIRQ_SLOTS,
};
enum { SOFTIRQ_MAX_ROUNDS = 10, SOFTIRQ_MAX_MS = 2 };

// The handler of a softirq; may run on several CPUs at once. Once each. Context: any.
void open_softirq(enum softirq nr, void (*action)(void));

void softirq_wake_thread(void); // ksoftirqd of this CPU. Context: interrupts off

// Marks it pending on this CPU, for whoever has seen that he is above thread code
// (cpu.above_thread): in an interrupt its end will look, in a softirq the next round, with bottom
// halves off their enabling.
static __always_inline void softirq_mark(enum softirq nr)
{
    trace(TRACE_SOFTIRQ_RAISE, nr, 0); // before it may run
    __asm__ volatile("orl %0, %%gs:%c1" ::"ri"((uint32_t)BIT(nr)),
                     "i"(offsetof(struct cpu, softirq_pending))
                     : "memory", "cc");
}

// Marks it pending on this CPU. Context: interrupts off.
static inline void raise_softirq_irqoff(enum softirq nr)
{
    softirq_mark(nr);
    // In a thread nobody would look before the next interrupt.
    if (unlikely(!cpu_field_set(above_thread))) {
        softirq_wake_thread();
    }
}

void raise_softirq(enum softirq nr); // Context: any

// In the pending word: ksoftirqd has it, and the ends of interrupts keep out.
#define SOFTIRQ_LEFT_TO_THREAD BIT(31)

static inline bool softirq_pending(void) // this CPU
{
    return cpu_field_set(softirq_pending);
}

// May what was left to ksoftirqd run all the same? Then it is not any more. Context: interrupts
// off.
bool softirq_take_back(struct cpu *cpu);
// Shall what is pending on this CPU run here and now? One look at the word and its highest bit.
static __always_inline bool softirq_due(struct cpu *cpu)
{
    bool due;

    __asm__("cmpl $0, %1" : "=@ccg"(due) : "m"(cpu->softirq_pending));
    if (due) {
        return true;
    }
    return unlikely(cpu->softirq_pending != 0) && softirq_take_back(cpu);
}

// The spine's call where the outermost hard interrupt ends and softirqs are due: books the
// interrupt's time (cputime_irq_end), is in hard irq no more, and runs softirqs. Entered and left
// with interrupts off, on in between. Context: hard irq.
void softirq_run(void);
void softirq_init_subsystem(void); // before the first interrupt. Context: boot
// ksoftirqd/N for each CPU that is online; called as CPUs come up. Context: thread.
void softirq_start_threads(void);

void softirq_bh_enabled(void); // for local_bh_enable(). Context: thread or softirq

// Keep softirqs off this CPU while thread code touches what they touch; enabling runs what became
// pending. Preemption is off as well: the counter belongs to the CPU, so the thread has to stay.
// Context: thread or softirq.
static inline void local_bh_disable(void)
{
    preempt_disable();
    cpu_self()->bh_disabled++;
    barrier();
}

// Context: thread or softirq.
static inline void local_bh_enable(void)
{
    struct cpu *cpu = cpu_self();

    barrier();
    int16_t left = (int16_t)--cpu->bh_disabled;
    barrier(); // what an interrupt raised before that is ours to run: its end let it be
    if (left <= 0 && (cpu->softirq_pending != 0 || left < 0)) {
        softirq_bh_enabled();
    }
    preempt_enable();
}

uint64_t softirq_count(enum softirq nr, unsigned cpu);
uint64_t softirq_time_ns(enum softirq nr,
                         unsigned cpu); // with the interrupts that struck meanwhile

// How a CPU's bounds work out. A serving is one stay in softirq context, of one round or more; it
// ends with something left for one of three reasons.
struct softirq_stat { // C: read by others
    uint64_t servings, rounds;
    uint64_t by_thread;     // servings in ksoftirqd
    uint64_t out_of_rounds; // ends: SOFTIRQ_MAX_ROUNDS
    uint64_t out_of_time;   // ends: SOFTIRQ_MAX_MS
    uint64_t thread_waits;  // ends: a thread should run
    uint64_t handed_over;   // to ksoftirqd
};
const struct softirq_stat *softirq_stat(unsigned cpu);
const char *softirq_name(enum softirq nr);
