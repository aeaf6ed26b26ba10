// Timer interrupts that do not come although the CPU takes others. Context: softirq, with a CPU's
// neighbour; one asks at a time.
#pragma once

// Asks the CPU by NMI when its timer interrupt is late, and gets it going again.
void watchdog_rouse(unsigned cpu);
