// cost: what an empty system call costs from ring 3, in ticks of the time stamp counter, by each of
// the two ways in. Under QEMU with -icount shift=0 a tick is an instruction.
#include "user.h"

enum { ROUNDS = 15, CALLS = 100 };

static unsigned long ticks(void)
{
    unsigned long high, low;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return high << 32 | low;
}

// The quickest of some rounds: the others were interrupted.
static long cost(long (*call)(long number, long a, long b, long c), long number)
{
    unsigned long least = ~0ul;

    for (int round = 0; round < ROUNDS; round++) {
        unsigned long start = ticks();
        for (int i = 0; i < CALLS; i++) {
            call(number, 0, 0, 0);
        }
        unsigned long spent = ticks() - start;
        least = spent < least ? spent : least;
    }
    return (long)(least / CALLS);
}

static long nothing(long number, long a, long b, long c)
{
    (void)a, (void)b, (void)c;
    __asm__ volatile("" ::: "memory");
    return number;
}

int main(void)
{
    long (*volatile empty)(long, long, long, long) = nothing;
    long loop = cost(empty, 0);

    print_number("SYSCALL  ", cost(syscall3, SYS_getpid) - loop, " ticks for getpid\n");
    print_number("INT 0x80 ", cost(gate3, SYS_getpid) - loop, " ticks for getpid\n");
    return 0;
}
