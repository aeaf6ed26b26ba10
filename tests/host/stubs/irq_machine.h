// What the interrupt core stands on, for host tests: CPUs that the test switches between, locks
// that complain, a local APIC and a controller that write down what they are told.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <contract/irq_chip.h>

enum { FAKE_CPUS = 4, FAKE_WIRES = 24 };

// A fresh machine: all CPUs online, no interrupts, empty journal. Ends with an assertion when a
// lock is held.
void fake_reset(void);
// Frees every handler that there is.
void fake_free_all(void);
// The code after this runs "on" this CPU; in hard interrupt or thread context.
void fake_cpu(unsigned cpu);
void fake_hardirq(bool on);
// Delivers a vector to the current CPU, as the spine does.
void fake_interrupt(unsigned vector);

// What happened at the chips and handlers since the last call, in order, blank-separated:
// "startup(4) handler(a) eoi(4)".
const char *fake_journal(void);
void fake_note(const char *format, ...);

// ioapic_chip has every primitive; this one neither set_type nor set_affinity.
extern const struct irq_chip fake_message_chip;
extern int fake_affinity_error;   // what ioapic_chip's set_affinity answers
extern bool fake_in_service[256]; // the local APIC's ISR
extern bool fake_pic_real;
extern unsigned fake_waiting;       // so many looks find a message in the IRR
extern unsigned fake_allocations;   // outstanding
extern unsigned fake_failing_after; // so many kzalloc succeed, then NULL
