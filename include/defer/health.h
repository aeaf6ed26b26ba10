// How the machine is, once a second: OK, WARN or ALERT for each of a few measures.
#pragma once

// Context: boot thread, once, after the timers.
void health_init(void);
