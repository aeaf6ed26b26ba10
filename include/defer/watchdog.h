// CPUs and threads that do not come on: found, reported, and left to go on if they can.
#pragma once

#include <lib/types.h>

// Context: boot.
void watchdog_init(void);
// The tick's share: could this CPU switch threads lately? Context: hard irq.
void watchdog_tick(void);
