// The local APIC's own timer: a counter that counts down to an interrupt, or a comparison with the
// TSC where the CPU has it.
//
//   periodic    initial count ──> 0: interrupt, and from the beginning     the tick of old
//   one-shot    initial count ──> 0: interrupt, stands still               divided by 1, or by 128
//   deadline    TSC == MSR: interrupt, and the MSR is 0                    no counter, no rounding
//
// Which of them holds, and by what the counter is divided, is remembered, since each access costs
// an emulator an exit.
//
// Intel SDM vol. 3, 11.5.4. Context: this CPU, interrupts off. Previous: lapic.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/log.h>
#include <x86/cpuid.h>

#include "lapic_internal.h"

enum { LAPIC_CALIBRATE_MS = 10 };

static uint64_t lapic_hz;      // I: of the timer's counter
static uint64_t lapic_per_ns;  // I: the same per nanosecond, 32.32
static bool lapic_by_tsc;      // I: deadlines by the TSC
static bool lapic_no_deadline; // I: boot option

struct lapic_timer {
    uint32_t lvt, divide; // C: what the registers hold
};
static struct lapic_timer lapic_timers[MAX_CPUS];

void lapic_timer_init_cpu(void)
{
    lapic_wr(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
    this_cpu(lapic_timers) = (struct lapic_timer){.lvt = VECTOR_TIMER | LVT_MASKED};
}

// Mode and divider, written only when they change: each register costs an emulator an exit. A timer
// that counts is stopped first (by the caller) or started anew (by the caller).
static void lapic_timer_mode(uint32_t lvt, uint32_t divide)
{
    struct lapic_timer *timer = &this_cpu(lapic_timers);

    if (timer->divide != divide) {
        timer->divide = divide;
        lapic_wr(LAPIC_TIMER_DIVIDE, divide);
    }
    if (timer->lvt != lvt) {
        timer->lvt = lvt;
        lapic_wr(LAPIC_LVT_TIMER, lvt);
        if ((lvt & LVT_DEADLINE) != 0) { // before the first write to its MSR (11.5.4.1)
            __asm__ volatile("mfence" ::: "memory");
        }
    }
}

void lapic_timer_count_start(void)
{
    if (lapic_present) {
        lapic_timer_mode(VECTOR_TIMER | LVT_MASKED, TIMER_DIVIDE_BY_1);
        lapic_wr(LAPIC_TIMER_INITIAL, UINT32_MAX);
    }
}

uint32_t lapic_timer_left(void)
{
    return lapic_present ? lapic_rd(LAPIC_TIMER_CURRENT) : UINT32_MAX;
}

uint32_t lapic_timer_count(void)
{
    return UINT32_MAX - lapic_timer_left();
}

void lapic_timer_set_hz(uint64_t hz)
{
    if (hz != 0) {
        lapic_hz = hz;
        lapic_per_ns = (hz << 29) / 125000000;
    }
}

// Counting has mostly been done in clock_calibrate's window; this is for a boot in which the APIC
// came up later than the clock.
void lapic_timer_calibrate(void)
{
    if (lapic_hz == 0) {
        lapic_timer_count_start();
        uint64_t begin_ns = clock_ns();
        uint32_t begin = lapic_timer_count();
        udelay(LAPIC_CALIBRATE_MS * 1000);
        uint64_t ns = clock_ns() - begin_ns;
        uint32_t ticks = lapic_timer_count() - begin;
        lapic_timer_stop();
        lapic_timer_set_hz(ns != 0 ? ticks * 1000000000ull / ns : 0);
    }
    if (lapic_hz < HZ) {
        pr_err("lapic: the timer does not count: there will be no tick");
        return;
    }
    lapic_by_tsc = cpu_has(FEATURE_TSC_DEADLINE) && !lapic_no_deadline;
    pr_info("lapic: timer counts at %llu.%03llu MHz%s", (unsigned long long)(lapic_hz / 1000000),
            (unsigned long long)(lapic_hz / 1000 % 1000),
            lapic_by_tsc ? ", deadlines by the TSC" : "");
}

uint64_t lapic_timer_hz(void)
{
    return lapic_hz;
}

// The count is written last: it starts the timer, with whatever mode stands in the LVT (11.5.4).
static void lapic_timer_start(uint32_t mode, uint64_t count)
{
    uint32_t divide = TIMER_DIVIDE_BY_1;

    if (count > UINT32_MAX) {
        divide = TIMER_DIVIDE_BY_128;
        count = min(count / 128, (uint64_t)UINT32_MAX);
    }
    lapic_timer_mode(VECTOR_TIMER | mode, divide);
    lapic_wr(LAPIC_TIMER_INITIAL, count == 0 ? 1 : (uint32_t)count);
}

void lapic_timer_periodic(uint32_t hz)
{
    if (hz != 0 && lapic_hz != 0) {
        lapic_timer_start(LVT_PERIODIC, (lapic_hz + hz / 2) / hz);
    }
}

// The count is rounded up: too late by one, rather than early and once more.
void lapic_timer_oneshot(uint64_t ns)
{
    lapic_timer_start(0, (uint64_t)((unsigned __int128)ns * lapic_per_ns >> 32) + 1);
}

void lapic_timer_deadline(uint64_t at_ns)
{
    if (lapic_by_tsc) {
        lapic_timer_mode(VECTOR_TIMER | LVT_DEADLINE, TIMER_DIVIDE_BY_1);
        wrmsr(MSR_TSC_DEADLINE, at_ns == LAPIC_TIMER_NEVER ? 0 : clock_ns_to_tsc(at_ns));
    } else if (at_ns == LAPIC_TIMER_NEVER) {
        lapic_wr(LAPIC_TIMER_INITIAL, 0); // stops it (11.5.4)
    } else {
        uint64_t now_ns = clock_ns();
        lapic_timer_oneshot(at_ns > now_ns ? at_ns - now_ns : 0);
    }
}

bool lapic_timer_is_deadline(void)
{
    return lapic_by_tsc;
}

void lapic_timer_stop(void)
{
    if (lapic_present) {
        lapic_timer_mode(VECTOR_TIMER | LVT_MASKED, TIMER_DIVIDE_BY_1);
        lapic_wr(LAPIC_TIMER_INITIAL, 0);
    }
}

static int lapic_option(const char *value)
{
    if (value == NULL || strcmp(value, "notscdeadline") != 0) {
        return -EINVAL;
    }
    lapic_no_deadline = true;
    return 0;
}
BOOT_OPTION("lapic", lapic_option, "notscdeadline: count down to the next timer, as older CPUs do");
