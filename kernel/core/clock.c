// The nanosecond clock: TSC cycles since boot times a fixed-point factor.
//
//   ns = (cycles * mult) >> 32, in 128 bits, so that it neither overflows nor drifts for centuries
//
// Until the rate is known the TSC is taken for faster than any there is: a wait is then too long
// rather than too short, and when the true rate comes, the past is told anew with it and the clock
// steps forward, never back. Context: any; set once on the boot CPU with interrupts off.
#include <core/clock.h>

volatile uint32_t jiffies = INITIAL_JIFFIES;

#define CLOCK_ASSUMED_HZ 8000000000ull

static uint64_t clock_hz = CLOCK_ASSUMED_HZ;
static uint64_t clock_mult = (1000000000ull << 32) / CLOCK_ASSUMED_HZ; // I: ns per cycle, 32.32
static uint64_t clock_cycles_per_ns = (CLOCK_ASSUMED_HZ << 29) / 125000000; // I: likewise 32.32
static uint64_t clock_start;    // I: TSC at kernel entry
static uint64_t clock_base_tsc; // I: the same, or the TSC when the rate was set
static uint64_t clock_base_ns;  // I
static bool clock_unstable;     // A: TSCs of different CPUs may differ
static uint64_t clock_told_ns;  // A: then, the latest that anybody was told

static uint64_t clock_scale(uint64_t cycles)
{
    return (uint64_t)((unsigned __int128)cycles * clock_mult >> 32);
}

uint64_t clock_tsc_to_ns(uint64_t tsc_delta)
{
    return clock_scale(tsc_delta);
}

// A TSC that is a little behind on another CPU must not make a huge number.
static uint64_t clock_at(uint64_t tsc)
{
    return tsc > clock_base_tsc ? clock_base_ns + clock_scale(tsc - clock_base_tsc) : clock_base_ns;
}

// Counted from now, not from boot: the factor's rounding then grows with how far ahead it is asked
// for, not with how long the machine has been up.
uint64_t clock_ns_to_tsc(uint64_t ns)
{
    uint64_t now = rdtsc();
    uint64_t now_ns = clock_at(now);
    uint64_t ahead_ns = ns > now_ns ? ns - now_ns : 0;

    return now + (uint64_t)((unsigned __int128)ahead_ns * clock_cycles_per_ns >> 32) + 1;
}

void clock_set_unstable(void)
{
    WRITE_ONCE(clock_unstable, true);
}

// Where CPUs differ the clock stands still for a moment instead of going back.
static uint64_t clock_hold(uint64_t ns)
{
    uint64_t told = __atomic_load_n(&clock_told_ns, __ATOMIC_RELAXED);

    while (told < ns && !__atomic_compare_exchange_n(&clock_told_ns, &told, ns, false,
                                                     __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
    return max(told, ns);
}

uint64_t clock_ns(void)
{
    uint64_t now = rdtsc();

    if (unlikely(clock_base_tsc == 0)) { // first call: this is where time begins
        clock_start = clock_base_tsc = now;
    }
    uint64_t ns = clock_at(now);
    return likely(!clock_unstable) ? ns : clock_hold(ns);
}

uint64_t clock_start_tsc(void)
{
    return clock_start;
}

uint64_t clock_tsc_hz(void)
{
    return clock_hz;
}

void clock_set_tsc_hz(uint64_t hz)
{
    uint64_t now = rdtsc();
    uint64_t cycles_before = clock_base_tsc != 0 ? now - clock_base_tsc : 0;

    clock_hz = hz;
    clock_cycles_per_ns = (hz << 29) / 125000000; // 20 GHz << 29 is the most that fits
    clock_mult = (uint64_t)(((unsigned __int128)1000000000 << 32) / hz);
    clock_base_ns = clock_scale(cycles_before); // the past too, at the true rate
    clock_base_tsc = now;
}

static void clock_delay(uint64_t ns)
{
    uint64_t end_ns = clock_ns() + ns;

    while (clock_ns() < end_ns) {
        cpu_relax();
    }
}

void udelay(uint32_t us)
{
    clock_delay((uint64_t)us * 1000);
}

void ndelay(uint32_t ns)
{
    clock_delay(ns);
}
