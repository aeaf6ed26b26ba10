// Tasklets: a function to be run soon, once, in softirq context, never on two CPUs at once.
#pragma once

#include <lib/types.h>

struct tasklet_struct {
    struct tasklet_struct *next;                // C: on the list of the CPU that scheduled it
    uint32_t state;                             // A: scheduled, running, parked
    uint32_t disabled;                          // A: tasklet_disable() nesting
    void (*callback)(struct tasklet_struct *t); // I
    const char *name;                           // I
    uint64_t runs;                              // A
    struct tasklet_kind *kind;                  // I: its row in /proc/tasklets
};

void tasklet_init_subsystem(void);
void tasklet_setup(struct tasklet_struct *t, void (*callback)(struct tasklet_struct *t),
                   const char *name);
void tasklet_schedule(
    struct tasklet_struct *t); // any context; scheduled while running: runs exactly once more
void tasklet_hi_schedule(struct tasklet_struct *t); // HI_SOFTIRQ
void tasklet_disable(struct tasklet_struct *t);     // waits until it is not running; thread context
void tasklet_disable_nosync(struct tasklet_struct *t); // does not wait: any context
void tasklet_enable(struct tasklet_struct *t);
// A tasklet that was asked for or runs, and lies in this memory, or NULL: for a check before it is
// freed. Context: any.
struct tasklet_struct *tasklet_find(const void *start, size_t size);
void tasklet_kill(
    struct tasklet_struct *t); // waits until it is neither scheduled nor running; thread context
