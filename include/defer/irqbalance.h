// A service that spreads interrupts over the CPUs by how often they come: what the irqbalance
// daemon is on Linux. Off until somebody starts it.
// Context: thread.
#pragma once

#include <lib/cpumask.h>
#include <lib/types.h>

enum { IRQBALANCE_INTERVAL_S = 10 };

struct irqbalance_status {
    bool running;
    uint32_t interval_s;
    uint64_t rounds, moves;
    uint64_t load[MAX_CPUS]; // interrupts in the last interval, as the service has placed them
};

// start: 0, -EBUSY (it runs), -ENOMEM, -ERANGE (interval_s 1..3600).
int irqbalance_start(uint32_t interval_s);
void irqbalance_stop(void);
// One round now, on the counts since the last one; returns how many irqs it moved.
unsigned irqbalance_once(void);
// Irqs that it leaves alone. 0 or -EINVAL.
int irqbalance_ban(unsigned irq, bool ban);
bool irqbalance_is_banned(unsigned irq);
void irqbalance_status(struct irqbalance_status *status);
