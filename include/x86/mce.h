// Machine checks: the hardware's own report of errors in caches, buses and memory. Intel SDM vol.
// 3, chapter 15.
#pragma once

#include <lib/types.h>

struct frame;

// Logs and clears what the banks hold from before, then lets them report. Context: once per CPU,
// before CR4.MCE.
void machine_check_init(void);

// #MC: logs each bank that holds an error, by its meaning. Returns when the CPU can go on, panics
// when not. Context: NMI-like.
void machine_check(const struct frame *frame);

// Logs and clears corrected errors of this CPU, which raise no exception; returns how many.
// Context: any, on one CPU throughout.
unsigned machine_check_poll(void);
