// Completion polling for block drivers: what NAPI is for network cards. A completion interrupt only
// quiets its source and calls irq_poll_sched(); IRQ_POLL_SOFTIRQ then asks the driver for at most
// `weight` completions at a time, until it has no more.
//
//     hard irq   mask the queue's interrupt; irq_poll_sched(&queue->iop)
//     softirq    done = poll(iop, budget):  reap up to budget completions
//                done < budget:             irq_poll_complete(iop), unmask, and look once more
//                done == budget:            it is called again, after the others
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/list.h>
#include <lib/types.h>

struct irq_poll;

// At most `budget` completions; returns how many. With fewer than `budget` it must have called
// irq_poll_complete() before it returns; from then on the interrupt may schedule it again, also on
// another CPU. Context: softirq, interrupts on.
typedef int (*irq_poll_fn)(struct irq_poll *iop, int budget);

struct irq_poll {
    struct list_head list; // C: of the CPU that scheduled it
    uint32_t state;        // A: scheduled, disabled
    int weight;            // I: completions in one call
    irq_poll_fn poll;      // I
};

enum { IRQ_POLL_BUDGET = 256, IRQ_POLL_MAX_WEIGHT = 64 }; // of one run of the softirq; of one call

void irq_poll_init_subsystem(void); // Context: boot, once

// Context: thread. weight: 1..IRQ_POLL_MAX_WEIGHT.
void irq_poll_init(struct irq_poll *iop, int weight, irq_poll_fn poll);
// Asks for a poll on this CPU; already asked for, or disabled: nothing. Context: any.
void irq_poll_sched(struct irq_poll *iop);
// No more completions: the next irq_poll_sched() counts again. By its poll function. Context:
// softirq.
void irq_poll_complete(struct irq_poll *iop);
// Waits until it neither runs nor will; interrupts that schedule it meanwhile are ignored, so the
// driver looks for completions itself after enabling. Context: thread.
void irq_poll_disable(struct irq_poll *iop);
void irq_poll_enable(struct irq_poll *iop); // Context: any
