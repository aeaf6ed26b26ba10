// What entry.S leaves on the stack: the registers of whatever was interrupted. Offsets are used by
// entry.S and asserted in exception.c.
//
//   high   ss rsp rflags cs rip   pushed by the CPU (Intel SDM vol. 3, 6.14.2), always all five
//          error                  pushed by the CPU for some exceptions, a zero by the stub otherwise
//          vector                 pushed by the stub
//   low    rax ... r15            pushed by the common part; `struct frame *` points at the lowest
#pragma once

#include <lib/types.h>

struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

static inline bool frame_is_user(const struct frame *frame)
{
    return (frame->cs & 3) != 0;
}

// The C end of every interrupt and exception: kernel/interrupt.c. Called by entry.S with interrupts
// off.
void interrupt(struct frame *frame);
