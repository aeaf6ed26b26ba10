// What our programs have instead of a C library: system calls as functions, and a little printing.
#include "user.h"

long write(int fd, const void *data, size_t size)
{
    return syscall3(SYS_write, fd, (long)data, (long)size);
}

long read(int fd, void *to, size_t size)
{
    return syscall3(SYS_read, fd, (long)to, (long)size);
}

long getpid(void)
{
    return syscall3(SYS_getpid, 0, 0, 0);
}

long sched_yield(void)
{
    return syscall3(SYS_sched_yield, 0, 0, 0);
}

long sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    return syscall3(SYS_nanosleep, (long)&time, 0, 0);
}

void exit(int status)
{
    syscall3(SYS_exit, status, 0, 0);
    __builtin_trap();
}

size_t strlen(const char *s)
{
    size_t length = 0;

    while (s[length] != '\0') {
        length++;
    }
    return length;
}

int strcmp(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

long print(const char *s)
{
    long count = write(1, s, strlen(s));

    return count < 0 ? count : 0;
}

static char *append(char *to, const char *end, const char *s)
{
    while (*s != '\0' && to < end) {
        *to++ = *s++;
    }
    return to;
}

long print_number(const char *before, long number, const char *after)
{
    char line[128], digits[24], *to = line, *digit = digits + sizeof(digits) - 1;
    unsigned long rest = number < 0 ? -(unsigned long)number : (unsigned long)number;

    *digit = '\0';
    do {
        *--digit = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0) {
        *--digit = '-';
    }
    to = append(to, line + sizeof(line), before);
    to = append(to, line + sizeof(line), digit);
    to = append(to, line + sizeof(line), after);
    long count = write(1, line, (size_t)(to - line));
    return count < 0 ? count : 0;
}
