// The longest stretches in which a CPU would not be interrupted, or would not switch threads, and
// where they began and ended: /proc/latency. How, tells kernel/core/latency.c. Nothing is noted
// with police=off.
#pragma once

#include <lib/types.h>

// The spine's: an interrupt (or a system call) came while interrupts were on, and they are about to
// be on again. Context: interrupts off.
void latency_interrupt_begins(const void *at);
void latency_interrupt_ends(const void *at);

// How long a CPU has had interrupts off by now, and where that began; 0 when they are on, or nobody
// knows. For the watchdog on another CPU.
uint64_t latency_irqs_off_ns(unsigned cpu, const void **begun_at);
// The longest so far, for tests and for `break`.
uint64_t latency_max_irqs_off_ns(unsigned cpu);
uint64_t latency_max_preempt_off_ns(unsigned cpu);
void latency_reset(void);
