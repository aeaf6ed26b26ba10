// Tasklets: a function to be run soon, once, in softirq context, never on two CPUs at once.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>

struct tasklet_struct {
    union {
        struct {
            uint32_t state;    // A: scheduled, running, parked
            uint32_t disabled; // A: tasklet_disable() nesting
        };
        uint64_t state_and_disabled; // A: both, for who begins to run it
    };
    struct tasklet_struct *next;                // C: on the list of the CPU that scheduled it
    void (*callback)(struct tasklet_struct *t); // I
    const char *name;                           // I
    struct tasklet_kind *kind;                  // I: its row in /proc/tasklets
};

void tasklet_init_subsystem(void); // Context: boot
void tasklet_setup(struct tasklet_struct *t, void (*callback)(struct tasklet_struct *t),
                   const char *name);
// Scheduled while it runs, it runs exactly once more. hi: in HI_SOFTIRQ.
void tasklet_schedule(struct tasklet_struct *t);
void tasklet_hi_schedule(struct tasklet_struct *t);
// Waits until it is not running, so no lock may be held that it takes. Context: thread or atomic.
void tasklet_disable(struct tasklet_struct *t);
// Does not wait. Context: any.
void tasklet_disable_nosync(struct tasklet_struct *t);
void tasklet_enable(struct tasklet_struct *t);
// A tasklet that was asked for or runs, and lies in this memory, or NULL: for a check before it is
// freed. Context: any.
struct tasklet_struct *tasklet_find(const void *start, size_t size);
// Waits until it is neither scheduled nor running. Context: thread.
void tasklet_kill(struct tasklet_struct *t);
