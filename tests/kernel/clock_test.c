// The clock: as fast as every other clock of the machine, and the same on all CPUs.
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <x86/clock.h>
#include <x86/lapic.h>
#include <defer/hrtimer.h>

#include "every_cpu.h"

// An emulator is scheduled away at will: of many windows one must fit. Off by more than a twentieth
// is what this finds, as a wrong rate is wrong in each.
enum { CLOCK_TRIES = 100, CLOCK_TOLERANCE = 20 };

static bool clock_near(uint64_t hz, uint64_t expected)
{
    return hz > expected - expected / CLOCK_TOLERANCE && hz < expected + expected / CLOCK_TOLERANCE;
}

KTEST(clock, all_references_agree)
{
    unsigned present = 0;

    for (unsigned way = 0; way < CLOCK_WAYS; way++) {
        const char *name = NULL;
        bool tsc_agrees = false, lapic_agrees = false;

        for (unsigned i = 0; i < CLOCK_TRIES && !(tsc_agrees && lapic_agrees); i++) {
            uint64_t tsc_hz = 0, lapic_hz = 0;
            unsigned long flags = local_irq_save();
            name = clock_measure_by(way, &tsc_hz, &lapic_hz);
            hrtimer_reprogram();
            local_irq_restore(flags);
            tsc_agrees |= clock_near(tsc_hz, clock_tsc_hz());
            lapic_agrees |= clock_near(lapic_hz, lapic_timer_hz());
        }
        if (name != NULL) {
            present++;
            EXPECT(tsc_agrees);
            EXPECT(lapic_agrees);
        }
    }
    EXPECT(present >= 2); // every PC has a PIT, and what is emulated here a PM timer or an HPET
}

static DEFINE_SPINLOCK(clock_test_lock);
static uint64_t clock_test_last; // L

static void clock_never_back(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;

    for (unsigned i = 0; i < 3000; i++) {
        spin_lock(&clock_test_lock);
        uint64_t now_ns = clock_ns();
        EXPECT(now_ns >= clock_test_last);
        clock_test_last = now_ns;
        spin_unlock(&clock_test_lock);
    }
}

KTEST(clock, never_goes_back_between_cpus)
{
    EXPECT(every_cpu_run(ktest, clock_never_back, NULL));
}

KTEST(clock, there_and_back)
{
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t tsc = rdtsc();
        uint64_t ns = clock_ns();

        EXPECT(clock_ns_to_tsc(ns) + 16 >= tsc); // both ways are rounded
        EXPECT(clock_ns_to_tsc(ns) <= rdtsc() + 16);
    }
}

// A deadline is neither early nor, but for the factor's last bit, late, however long the machine
// has been up.
KTEST(clock, deadlines_are_where_they_should_be)
{
    for (uint64_t ahead_ns = 100; ahead_ns < 1000000000; ahead_ns *= 7) {
        uint64_t at_ns = clock_ns() + ahead_ns;
        uint64_t at = clock_ns_to_tsc(at_ns);
        uint64_t now = rdtsc();
        uint64_t now_ns = clock_ns();

        EXPECT(at <= now || now_ns + clock_tsc_to_ns(at - now) + 1 >= at_ns);
        EXPECT(at <= now + ahead_ns * clock_tsc_hz() / 1000000000 + 16);
    }
}

KTEST(clock, delays_are_not_shorter_than_they_say)
{
    for (uint32_t ns = 100; ns < 100000; ns *= 3) {
        uint64_t before = clock_ns();
        ndelay(ns);
        EXPECT(clock_ns() - before >= ns);
    }
    uint64_t before = clock_ns();
    udelay(50);
    EXPECT(clock_ns() - before >= 50000);
}
