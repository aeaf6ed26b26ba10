// `lab timing`: when an interrupt came is visible to whoever can read a clock.
//
//   spy        t t t t t t t t t          t t t t t t      reads the clock, and nothing else
//   interrupt                  |__________|
//                              a gap: here it was
//
// The spy has no right to know anything of the interrupt; its clock tells. From the gaps between
// key strokes passwords have been guessed (Song, Wagner, Tian 2001), and from those of a network
// card who talks to whom. Here a secret of 16 bits is sent: in the middle of each of 16 slots an
// interrupt comes, or none; the spy looks for gaps, first with the time stamp counter, then with a
// clock that counts ticks only.
//
// The cure is the second clock: with the boot option clock=coarse programs in ring 3 cannot read
// the counter (CR4.TSD: RDTSC is #GP then; Intel SDM vol. 3, 2.5). The kernel goes on reading it.
//
// Context: thread.
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <lib/string.h>
#include <x86/cpuid.h>
#include <defer/hrtimer.h>
#include <sched/mutex.h>
#include <sched/thread.h>

enum {
    TIMING_BITS = 16,
    TIMING_SLOT_US = 1000,
    TIMING_WORK_US = 100, // of the interrupt's handler
    TIMING_GAP_NS = 60 * 1000,
};

static DEFINE_MUTEX(timing_mutex);
static struct hrtimer timing_timer; // L of timing_mutex

static enum hrtimer_restart timing_interrupt(struct hrtimer *timer)
{
    (void)timer;
    udelay(TIMING_WORK_US);
    return HRTIMER_NORESTART;
}

// The two clocks of the spy.
static uint64_t timing_fine(void)
{
    return clock_ns();
}

static uint64_t timing_coarse(void)
{
    return (uint64_t)jiffies * (1000000000 / HZ);
}

// Watches one slot; the longest gap between two readings, in the slot's middle, where the timer is.
static uint64_t timing_spy(uint64_t (*clock)(void), uint64_t end_ns)
{
    uint64_t before = clock(), longest = 0;

    while (clock_ns() < end_ns) { // how long to watch: the slot, not the spy's knowledge
        uint64_t now = clock();
        longest = max(longest, now - before);
        before = now;
    }
    return longest;
}

static unsigned timing_guess(uint64_t (*clock)(void), uint16_t secret)
{
    uint16_t guess = 0;

    for (unsigned bit = 0; bit < TIMING_BITS; bit++) {
        uint64_t start_ns = clock_ns();

        if (secret >> bit & 1) {
            hrtimer_start(&timing_timer, TIMING_SLOT_US * 1000 / 2, HRTIMER_MODE_REL_HARD);
        }
        uint64_t gap = timing_spy(clock, start_ns + TIMING_SLOT_US * 1000ull);
        hrtimer_cancel(&timing_timer);
        // A tick of the coarse clock is no gap: it is all that this clock ever shows.
        guess |= (uint16_t)((gap > TIMING_GAP_NS && gap < 1000000000 / HZ) << bit);
    }
    return guess;
}

static void timing_show(struct shell *sh, const char *clock, uint16_t secret, uint16_t guess)
{
    unsigned right = TIMING_BITS - (unsigned)__builtin_popcount((unsigned)(secret ^ guess));

    shell_printf(sh, "%-28s sent 0x%04x, seen 0x%04x: %u of %u bits right, %u ones seen\n", clock,
                 secret, guess, right, TIMING_BITS, (unsigned)__builtin_popcount(guess));
}

static int lab_timing(struct shell *sh, int argc, char **argv)
{
    uint16_t secret = (uint16_t)(rdtsc() >> 4);
    struct cpumask here = {0}, before = cpu_current()->allowed;

    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    mutex_lock(&timing_mutex);
    preempt_disable();
    cpumask_set(&here, cpu_id());
    preempt_enable();
    sched_setaffinity(cpu_current(), &here); // the spy and its victim share a CPU
    hrtimer_setup(&timing_timer, timing_interrupt, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
    timing_show(sh, "with the time stamp counter", secret,
                (uint16_t)timing_guess(timing_fine, secret));
    timing_show(sh, "with a clock of ticks", secret, (uint16_t)timing_guess(timing_coarse, secret));
    sched_setaffinity(cpu_current(), &before);
    mutex_unlock(&timing_mutex);
    shell_printf(sh, "programs %s\n",
                 cpu_coarse_clock
                     ? "may not read the counter: clock=coarse"
                     : "may read the counter; the boot option clock=coarse forbids it");
    return 0;
}

LAB("timing", lab_timing, "",
    "a secret read from the gaps that interrupts leave; a coarse clock hides it");
