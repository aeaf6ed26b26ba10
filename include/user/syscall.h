// The system calls, as the kernel and programs agree on them: Linux's numbers and meaning.
//
//   rax   the number          rdi, rsi, rdx   the arguments
//   rax   the result, or -errno; all other registers are kept but those that SYSCALL itself uses
//
// Both ways in, SYSCALL and INT 0x80, lead to the same table.
#pragma once

#define SYS_read        0  // fd, buffer, size
#define SYS_write       1  // fd, buffer, size
#define SYS_sched_yield 24 //
#define SYS_nanosleep   35 // struct timespec *, struct timespec * (must be NULL)
#define SYS_getpid      39 //
#define SYS_exit        60 // status

#ifndef __ASSEMBLER__
struct timespec {
    long tv_sec, tv_nsec;
};
#endif
