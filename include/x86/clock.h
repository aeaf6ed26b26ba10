// Finds out how fast the TSC runs, by HPET, else PM timer, else PIT channel 2; sets up
// <core/clock.h>.
#pragma once
#include <lib/types.h>

// hpet: mapped registers or NULL; pm_timer: port or 0. Logs what was used and the rate. Context:
// boot CPU, interrupts off.
void clock_calibrate(volatile void *hpet, uint16_t pm_timer);
// Seconds since 1970 from the CMOS clock (MC146818), 0 when it makes no sense. Bounded.
uint64_t clock_rtc_seconds(void);
