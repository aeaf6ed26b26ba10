// Polls interrupt lines that were shut. Context: boot thread, once, after the timers.
#pragma once

void line_poll_init(void);
