// Two stacks change places: the lowest step of a thread switch (kernel/x86/switch.S). Context:
// interrupts off.
#pragma once
#include <lib/types.h>

// Saves the callee-saved registers on the running stack and its pointer in *save, then continues on
// `load`. Returns when somebody switches back.
void switch_stacks(uintptr_t *save, uintptr_t load);

// Lays out a new stack so that the first switch to it enters first(arg), with interrupts off, as if
// called from nowhere (the backtrace ends there). Returns the stack pointer to hand to
// switch_stacks.
uintptr_t switch_prepare(uintptr_t stack_top, void (*first)(void *arg), void *arg);
