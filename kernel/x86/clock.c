// How fast does the time stamp counter run? Nobody says reliably, so it is measured against a clock
// whose rate is known:
//
//   HPET              its period stands in a register     10 to 100 MHz, 70 ns to 1 us a read
//   ACPI PM timer     3,579,545 Hz by definition          24 bits
//   PIT channel 2     1,193,182 Hz by definition          16 bits, three port accesses a read
//
// The first one that counts is used. All three look alike to the measurement: a function that reads
// an upward counter, its width, its period. A counter that stands still is found out by reading it
// often, so no loop here depends on a clock that is not yet there.
//
// The local APIC's timer has an unknown rate too, and is measured in the same window (when
// lapic_init came first): 10 ms in all.
//
// IA-PC HPET 1.0a, 2.3; ACPI 6.4, 4.8.3.3; Intel 8254 data sheet; MC146818A data sheet for the
// calendar. Context: boot CPU, interrupts off.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/io.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <x86/clock.h>
#include <x86/lapic.h>

enum {
    CLOCK_WINDOW_MS = 10,
    CLOCK_STUCK_READS = 10000,          // a counter that shows the same value so often does not run
    CLOCK_MAX_READS = 20 * 1000 * 1000, // the end of patience with one that runs in circles
    CLOCK_PAIR_TRIES = 8,
    CLOCK_COMPARE_PATIENCE_US = 1000 * 1000,

    HPET_CAPABILITIES = 0x00, // high half: period in femtoseconds
    HPET_PERIOD = 0x04,
    HPET_CONFIG = 0x10,
    HPET_CONFIG_ENABLE = 0x1,
    HPET_COUNTER = 0xf0,
    HPET_MAX_PERIOD_FS = 100 * 1000 * 1000, // 2.3.4: 0x05f5e100
    HPET_MIN_PERIOD_FS = 100 * 1000, // 10 GHz: beyond that, 32 bits would wrap within the window

    PM_TIMER_PERIOD_FS = 279365115,
    PIT_PERIOD_FS = 838095110,
    PIT_CHANNEL_2 = 0x42,
    PIT_COMMAND = 0x43,
    PIT_COMMAND_RATE = 0xb4,  // channel 2, low then high byte, mode 2
    PIT_COMMAND_LATCH = 0x80, // channel 2
    PIT_GATE = 0x61,          // bit 0 lets channel 2 count, bit 1 lets it sound
};

#define TSC_MIN_HZ 1000000ull // what a plausible CPU does: 1 MHz (an emulator) ...
#define TSC_MAX_HZ 20000000000ull

struct clock_reference {
    const char *name;
    uint64_t period_fs;
    uint32_t mask; // its width
    uint32_t (*read)(void);
};

// I: set by clock_calibrate before the readers run
static volatile void *clock_hpet;
static uint16_t clock_pm_timer;

static uint32_t clock_read_hpet(void)
{
    return readl((volatile char *)clock_hpet + HPET_COUNTER);
}

static uint32_t clock_read_pm_timer(void)
{
    return inl(clock_pm_timer);
}

static uint32_t clock_read_pit(void)
{
    outb(PIT_COMMAND_LATCH, PIT_COMMAND);
    uint32_t low = inb(PIT_CHANNEL_2);
    return 0u - (low | (uint32_t)inb(PIT_CHANNEL_2) << 8); // it counts down
}

static bool clock_runs(const struct clock_reference *reference)
{
    uint32_t first = reference->read() & reference->mask;
    for (unsigned i = 0; i < CLOCK_STUCK_READS; i++) {
        if ((reference->read() & reference->mask) != first) {
            return true;
        }
    }
    return false;
}

static bool clock_use_hpet(struct clock_reference *reference)
{
    if (clock_hpet == NULL) {
        return false;
    }
    uint32_t period = readl((volatile char *)clock_hpet + HPET_PERIOD);
    if (period < HPET_MIN_PERIOD_FS || period > HPET_MAX_PERIOD_FS) {
        pr_warn("clock: the HPET claims a period of %u fs, which cannot be; not used", period);
        return false;
    }
    volatile char *config = (volatile char *)clock_hpet + HPET_CONFIG;
    writel(readl(config) | HPET_CONFIG_ENABLE, config);
    *reference = (struct clock_reference){"HPET", period, UINT32_MAX, clock_read_hpet};
    return clock_runs(reference);
}

static bool clock_use_pm_timer(struct clock_reference *reference)
{
    if (clock_pm_timer == 0) {
        return false;
    }
    *reference = (struct clock_reference){"ACPI PM timer", PM_TIMER_PERIOD_FS, 0xffffff,
                                          clock_read_pm_timer};
    return clock_runs(reference);
}

static bool clock_use_pit(struct clock_reference *reference)
{
    outb((uint8_t)((inb(PIT_GATE) & ~2u) | 1), PIT_GATE);
    outb(PIT_COMMAND_RATE, PIT_COMMAND);
    outb(0, PIT_CHANNEL_2);
    outb(0, PIT_CHANNEL_2); // 0 means 65,536
    *reference = (struct clock_reference){"PIT", PIT_PERIOD_FS, 0xffff, clock_read_pit};
    return clock_runs(reference);
}

struct clock_pair {
    uint32_t counter;
    uint64_t tsc;
};

// Both clocks at the same moment, as nearly as can be: of a few tries the one with the least time
// between the two readings of the TSC, so that an emulator that was scheduled away in the middle
// does no harm.
static struct clock_pair clock_read_pair(const struct clock_reference *reference)
{
    struct clock_pair best = {0};
    uint64_t best_gap = UINT64_MAX;
    for (unsigned i = 0; i < CLOCK_PAIR_TRIES; i++) {
        uint64_t before = rdtsc();
        uint32_t counter = reference->read();
        uint64_t gap = rdtsc() - before;
        if (gap < best_gap) {
            best_gap = gap;
            best = (struct clock_pair){counter, before + gap / 2};
        }
    }
    return best;
}

// Waits until the reference has counted `ticks` from `first`. False when it stops or never gets
// there.
static bool clock_wait_ticks(const struct clock_reference *reference, uint32_t first,
                             uint32_t ticks)
{
    uint32_t last = first;
    unsigned same = 0;
    for (unsigned reads = 0; reads < CLOCK_MAX_READS && same < CLOCK_STUCK_READS; reads++) {
        uint32_t now = reference->read();
        if (((now - first) & reference->mask) >= ticks) {
            return true;
        }
        same = now == last ? same + 1 : 0;
        last = now;
    }
    return false;
}

// How often a clock of unknown rate counted between two readings, as a rate: ticks per second,
// given the TSC's. Scaled so that it fits 64 bits for anything up to 2^32 ticks.
static uint64_t clock_rate(uint64_t ticks, uint64_t cycles, uint64_t tsc_hz)
{
    return cycles != 0 ? ticks * (tsc_hz / 1000) / cycles * 1000 : 0;
}

// One window: the TSC's rate, and the local APIC timer's with it. 0 when the figures make no sense.
static uint64_t clock_measure(const struct clock_reference *reference, uint64_t *lapic_hz)
{
    static const struct clock_reference lapic = {
        .name = "local APIC timer", .mask = UINT32_MAX, .read = lapic_timer_count};
    uint32_t ticks = (uint32_t)(CLOCK_WINDOW_MS * 1000000000000ull / reference->period_fs);
    lapic_timer_count_start();
    struct clock_pair begin = clock_read_pair(reference), lapic_begin = clock_read_pair(&lapic);
    bool counted = clock_wait_ticks(reference, begin.counter, ticks);
    struct clock_pair end = clock_read_pair(reference), lapic_end = clock_read_pair(&lapic);
    lapic_timer_stop();

    uint64_t elapsed = (end.counter - begin.counter) & reference->mask;
    uint64_t elapsed_ns = elapsed * (reference->period_fs / 1000) / 1000;
    uint64_t cycles = end.tsc - begin.tsc;
    if (!counted || elapsed_ns == 0 || cycles > UINT64_MAX / 1000000000) {
        return 0;
    }
    uint64_t hz = cycles * 1000000000 / elapsed_ns;
    if (hz < TSC_MIN_HZ || hz > TSC_MAX_HZ) {
        return 0;
    }
    *lapic_hz =
        clock_rate(lapic_end.counter - lapic_begin.counter, lapic_end.tsc - lapic_begin.tsc, hz);
    return hz;
}

// The references, the best first.
static bool (*const clock_ways[CLOCK_WAYS])(struct clock_reference *reference) = {
    clock_use_hpet, clock_use_pm_timer, clock_use_pit};

const char *clock_measure_by(unsigned way, uint64_t *tsc_hz, uint64_t *lapic_hz)
{
    struct clock_reference reference;

    if (way >= CLOCK_WAYS || !clock_ways[way](&reference)) {
        return NULL;
    }
    *tsc_hz = clock_measure(&reference, lapic_hz);
    return reference.name;
}

void clock_calibrate(volatile void *hpet, uint16_t pm_timer)
{
    clock_hpet = hpet;
    clock_pm_timer = pm_timer;
    for (unsigned way = 0; way < CLOCK_WAYS; way++) {
        uint64_t hz, lapic_hz;
        const char *name = clock_measure_by(way, &hz, &lapic_hz);
        if (name != NULL && hz != 0) {
            clock_set_tsc_hz(hz);
            lapic_timer_set_hz(lapic_hz);
            pr_info("clock: TSC runs at %llu.%03llu MHz, measured against the %s",
                    (unsigned long long)(hz / 1000000), (unsigned long long)(hz / 1000 % 1000),
                    name);
            return;
        }
        if (name != NULL) {
            pr_warn("clock: the %s gives figures that cannot be; not used", name);
        }
    }
    pr_warn("clock: neither HPET, PM timer nor PIT counts: all times are guesses");
}

// ---- do all CPUs have the same time? ----

enum { CLOCK_COMPARE_READS = 500 };

static DEFINE_SPINLOCK(clock_compare_lock);
static uint64_t clock_compare_last; // L: the latest time that any of the two has seen
static uint64_t clock_compare_back; // L: by how much the other's was earlier than that, at most
static uint32_t clock_compare_come; // A: how many have come, ever: two of them make a pair

// Two CPUs read in turn, as the lock goes to and fro: no reading may be earlier than the one before
// it, whoever made that.
void clock_compare(void *arg)
{
    (void)arg;
    uint32_t complete = (__atomic_fetch_add(&clock_compare_come, 1, __ATOMIC_ACQ_REL) | 1) + 1;
    if (!wait_until(__atomic_load_n(&clock_compare_come, __ATOMIC_ACQUIRE) >= complete,
                    CLOCK_COMPARE_PATIENCE_US)) {
        return; // the other one is late; it will find the pair complete, and nobody
    }
    for (unsigned i = 0; i < CLOCK_COMPARE_READS; i++) {
        unsigned long flags;

        spin_lock_irqsave(&clock_compare_lock, flags);
        uint64_t now = rdtsc();
        if (now < clock_compare_last) {
            clock_compare_back = max(clock_compare_back, clock_compare_last - now);
        } else {
            clock_compare_last = now;
        }
        spin_unlock_irqrestore(&clock_compare_lock, flags);
    }
}

void clock_compare_end(unsigned cpu)
{
    unsigned long flags;

    spin_lock_irqsave(&clock_compare_lock, flags);
    uint64_t back = clock_compare_back;
    clock_compare_last = clock_compare_back = 0;
    spin_unlock_irqrestore(&clock_compare_lock, flags);
    if (back != 0) {
        pr_warn("clock: CPU %u's TSC is %llu cycles behind another's: the clock holds where it "
                "would go back",
                cpu, (unsigned long long)back);
        clock_set_unstable();
    }
}

static int clock_option_tsc(const char *value)
{
    if (value == NULL || strcmp(value, "unstable") != 0) {
        return -EINVAL;
    }
    clock_set_unstable();
    return 0;
}
BOOT_OPTION("tsc", clock_option_tsc, "unstable: do not trust that all CPUs' TSCs agree");

// ---- the calendar ----

enum {
    CMOS_INDEX = 0x70,
    CMOS_DATA = 0x71,
    CMOS_SECONDS = 0x00,
    CMOS_MINUTES = 0x02,
    CMOS_HOURS = 0x04,
    CMOS_DAY = 0x07,
    CMOS_MONTH = 0x08,
    CMOS_YEAR = 0x09,
    CMOS_STATUS_A = 0x0a,
    CMOS_UPDATING = 0x80,
    CMOS_STATUS_B = 0x0b,
    CMOS_BINARY = 0x04,
    CMOS_24_HOURS = 0x02,
    CMOS_HOUR_PM = 0x80,
    CMOS_UPDATE_US = 10 * 1000, // an update takes 2.2 ms at most
};

struct cmos_time {
    uint8_t second, minute, hour, day, month, year;
};

static uint8_t cmos_read(uint8_t index)
{
    outb(index, CMOS_INDEX);
    return inb(CMOS_DATA);
}

static bool cmos_read_time(struct cmos_time *time)
{
    if (!wait_until((cmos_read(CMOS_STATUS_A) & CMOS_UPDATING) == 0, CMOS_UPDATE_US)) {
        return false;
    }
    *time =
        (struct cmos_time){cmos_read(CMOS_SECONDS), cmos_read(CMOS_MINUTES), cmos_read(CMOS_HOURS),
                           cmos_read(CMOS_DAY),     cmos_read(CMOS_MONTH),   cmos_read(CMOS_YEAR)};
    return true;
}

static uint8_t cmos_binary(uint8_t value, uint8_t status)
{
    return status & CMOS_BINARY ? value : (uint8_t)((value >> 4) * 10 + (value & 0xf));
}

// Days from 1970-01-01 to the first of a month, in the proleptic Gregorian calendar; years from
// 2000 to 2099 have no exceptions to the rule of four.
static uint32_t cmos_days(unsigned year, unsigned month)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    unsigned since_2000 = year - 2000;
    uint32_t days = 10957 + since_2000 * 365 + (since_2000 + 3) / 4 + before[month - 1];
    return days + (month > 2 && year % 4 == 0);
}

uint64_t clock_rtc_seconds(void)
{
    // Two readings that agree were not torn by an update between them.
    struct cmos_time a, b;
    for (unsigned tries = 0;; tries++) {
        if (tries == 4 || !cmos_read_time(&a) || !cmos_read_time(&b)) {
            return 0;
        }
        if (a.second == b.second && a.minute == b.minute && a.hour == b.hour && a.day == b.day &&
            a.month == b.month && a.year == b.year) {
            break;
        }
    }
    uint8_t status = cmos_read(CMOS_STATUS_B);
    bool pm = (status & CMOS_24_HOURS) == 0 && (a.hour & CMOS_HOUR_PM) != 0;
    unsigned hour = cmos_binary(a.hour & (status & CMOS_24_HOURS ? 0xff : 0x7f), status);
    if ((status & CMOS_24_HOURS) == 0) {
        hour = hour % 12 + (pm ? 12 : 0);
    }
    unsigned minute = cmos_binary(a.minute, status), second = cmos_binary(a.second, status);
    unsigned day = cmos_binary(a.day, status), month = cmos_binary(a.month, status);
    unsigned year = 2000u + cmos_binary(a.year, status);
    if (hour > 23 || minute > 59 || second > 59 || day < 1 || day > 31 || month < 1 || month > 12 ||
        year > 2099) {
        return 0;
    }
    uint64_t days = cmos_days(year, month) + day - 1;
    return ((days * 24 + hour) * 60 + minute) * 60 + second;
}
