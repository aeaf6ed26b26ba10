// The waiting half of RCU (<core/rcu.h> has the readers'): after a grace period nobody can still
// hold what was reachable before it began.
// Context: any, where a line does not say otherwise.
#pragma once

#include <core/rcu.h>
#include <lib/types.h>

// Lies in what is to be freed.
struct rcu_head {
    struct rcu_head *next; // C: of the CPU that it was queued on
    void (*func)(struct rcu_head *head);
};

void rcu_init_subsystem(void); // before other CPUs are up. Context: boot, once

// Calls func(head) after a grace period, in RCU_SOFTIRQ on this CPU. Context: any but NMI.
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
// Returns after a grace period: a few ticks. Context: thread, not a reader.
void synchronize_rcu(void);
// Returns when every callback that was queued before, on any CPU, has been called: before the code
// or the memory that they use goes away. Context: thread.
void rcu_barrier(void);

// The tick's word, at its beginning: what it interrupted may be a quiescent state, or a reader that
// does not end. Context: hard irq.
void rcu_tick(void);
