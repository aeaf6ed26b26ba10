// Polls interrupt lines that were shut.
#pragma once

#include <lib/types.h>

// Context: boot thread, once, after the timers.
void line_poll_init(void);
// Is every line's handler asked, whether it was shut or not (irqpoll)? Context: any.
bool line_poll_asks_all(void);
// Ticks between two questions, to a shut line or to a device without an interrupt:
// /proc/irq/poll_hz, 10 a second unless told otherwise. Context: any.
uint32_t line_poll_interval(void);
