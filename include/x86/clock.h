// Finds out how fast the TSC runs, by HPET, else PM timer, else PIT channel 2; sets up
// <core/clock.h>.
#pragma once
#include <lib/types.h>

// hpet: mapped registers or NULL; pm_timer: port or 0. Logs what was used and the rate. Context:
// boot CPU, interrupts off.
void clock_calibrate(volatile void *hpet, uint16_t pm_timer);
// Measures again against one of the references, best first: its name, or NULL when the machine has
// none such. A rate is 0 when the figures make no sense. Leaves the local APIC's timer stopped
// (hrtimer_reprogram). Context: interrupts off, for 10 ms.
enum { CLOCK_WAYS = 3 };
const char *clock_measure_by(unsigned way, uint64_t *tsc_hz, uint64_t *lapic_hz);
// Compares the time of two CPUs: both run the first, at the same time, and then one the second,
// which makes the clock safe if they differ, and says so.
void clock_compare(void *unused);
void clock_compare_end(unsigned cpu);
// Seconds since 1970 from the CMOS clock (MC146818), 0 when it makes no sense. Bounded.
uint64_t clock_rtc_seconds(void);
