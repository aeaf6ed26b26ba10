// What our programs have instead of a C library.
#pragma once

#include <stddef.h>
#include <user/syscall.h>

// crt0.S: a system call by SYSCALL, and the same by INT 0x80. The result, or -errno.
long syscall3(long number, long a, long b, long c);
long gate3(long number, long a, long b, long c);

long write(int fd, const void *data, size_t size);
long read(int fd, void *to, size_t size);
long getpid(void);
long sched_yield(void);
long sleep_ms(long ms);
_Noreturn void exit(int status);

size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
// Text and a decimal number to descriptor 1, in one write each: 0, or -errno.
long print(const char *s);
long print_number(const char *before, long number, const char *after);
