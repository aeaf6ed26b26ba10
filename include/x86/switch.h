// Two stacks change places: the lowest step of a thread switch (kernel/x86/switch.S). Context:
// interrupts off.
#pragma once
#include <lib/types.h>

// Keeps the running stack's pointer in *save and continues on `load`; returns when somebody
// switches back. Of the registers only %rbp survives by itself (kernel/x86/switch.S), so the
// compiler is told that all others are lost: it keeps those that it needs, and no register is saved
// twice.
static inline __attribute__((always_inline)) void switch_stacks(uintptr_t *save, uintptr_t load)
{
    __asm__ volatile("call switch_stacks_asm"
                     : "+D"(save), "+S"(load)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                       "r15", "memory", "cc");
}

// Lays out a new stack so that the first switch to it enters first(arg), with interrupts off, as if
// called from nowhere (the backtrace ends there). Returns the stack pointer to hand to
// switch_stacks.
uintptr_t switch_prepare(uintptr_t stack_top, void (*first)(void *arg), void *arg);
