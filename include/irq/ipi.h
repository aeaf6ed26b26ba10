// One CPU asks another: run this function, look at your run queue, drop these translations.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/cpumask.h>
#include <lib/types.h>

void ipi_init(void); // registers the vectors. Context: boot

extern uint32_t ipi_patience_ms; // what a CPU may take to answer; for tests to shorten

// fn(arg) on every online CPU of the mask except this one, in hard irq context there. `wait`:
// returns after all have run it. A CPU that has not begun it after ipi_patience_ms is named in the
// log, its call withdrawn. Context: any; with `wait` interrupts on, or it could deadlock with a CPU
// that waits for us.
void smp_call_function_many(const struct cpumask *mask, void (*fn)(void *arg), void *arg,
                            bool wait);
int smp_call_function_single(unsigned cpu, void (*fn)(void *arg), void *arg,
                             bool wait); // also on this CPU; -ENXIO: not online
// This one included; waits. Context: interrupts on.
void on_each_cpu(void (*fn)(void *arg), void *arg);

// "Something better may run on your CPU": sets want_resched there. Context: any.
void ipi_reschedule(unsigned cpu);

// Drops kernel translations of [start, end) on every other online CPU and waits. Context: any;
// interrupts on, as above, but while the machine boots.
// Tied to map_shootdown.
void ipi_tlb_shootdown(uintptr_t start, uintptr_t end);
// What a CPU had to do with shoot-downs: answers that it asked for, of the CPUs that owed none yet;
// messages that it sent for them; answers that it gave itself, in the interrupt or while it waited
// for its turn to ask. Over all CPUs what was asked for is what was given, when none is under way.
// /proc/shootdowns.
struct ipi_tlb_stat {
    uint64_t asked, sent;                 // L of the one shoot-down under way
    uint64_t by_interrupt, while_waiting; // C
};
struct ipi_tlb_stat ipi_tlb_stat(unsigned cpu);

// fn(frame) on another CPU in an NMI, which reaches it whatever it has turned off; fn sees what the
// CPU was doing. True when it has run, false when the CPU took no NMI within timeout_us (fn is
// withdrawn then). One at a time. Context: any but NMI.
struct frame;
bool ipi_nmi_call(unsigned cpu, void (*fn)(const struct frame *frame), uint32_t timeout_us);

// Stops the others by NMI, for panic. Bounded.
void ipi_stop_others(void);
