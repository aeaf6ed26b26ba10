// The core: locks across CPUs, interrupt flags, log, resources, flight recorder, clock.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/resource.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <sched/completion.h>
#include <sched/thread.h>

enum { CORE_ROUNDS = 20000 };

static DEFINE_SPINLOCK(core_lock);
static uint64_t core_shared; // L
static struct completion core_done[MAX_CPUS];

static void core_increment(void *arg)
{
    for (unsigned i = 0; i < CORE_ROUNDS; i++) {
        unsigned long flags;
        uint64_t seen;

        spin_lock_irqsave(&core_lock, flags);
        seen = core_shared; // read, linger, write: without the lock increments would be lost
        cpu_relax();
        core_shared = seen + 1;
        spin_unlock_irqrestore(&core_lock, flags);
    }
    complete(arg);
}

KTEST(spinlock, keeps_every_increment_of_every_cpu)
{
    unsigned cpus_used = 0;

    core_shared = 0;
    for_each_online_cpu (cpu) {
        init_completion(&core_done[cpu]);
        REQUIRE(kthread_run_on(cpu, core_increment, &core_done[cpu], "spin/%u", cpu) != NULL);
        cpus_used++;
    }
    for_each_online_cpu (cpu) {
        REQUIRE(wait_for_completion_timeout(&core_done[cpu], 60 * HZ) != 0);
    }
    EXPECT_EQ(core_shared, (uint64_t)cpus_used * CORE_ROUNDS);
    EXPECT(!spin_is_held(&core_lock));
}

KTEST(spinlock, irqsave_restores_what_it_found)
{
    DEFINE_SPINLOCK(outer);
    DEFINE_SPINLOCK(inner);
    unsigned long outer_flags, inner_flags;

    EXPECT(!irqs_disabled());
    spin_lock_irqsave(&outer, outer_flags);
    EXPECT(irqs_disabled());
    EXPECT(in_atomic());
    spin_lock_irqsave(&inner, inner_flags);
    EXPECT(spin_is_held(&inner));
    spin_unlock_irqrestore(&inner, inner_flags);
    EXPECT(irqs_disabled()); // found off, so left off
    spin_unlock_irqrestore(&outer, outer_flags);
    EXPECT(!irqs_disabled());
    EXPECT(!in_atomic());
}

KTEST(spinlock, trylock_says_when_it_is_taken)
{
    DEFINE_SPINLOCK(lock);

    EXPECT(spin_trylock(&lock));
    EXPECT(!spin_trylock(&lock));
    spin_unlock(&lock);
    EXPECT(spin_trylock(&lock));
    spin_unlock(&lock);
    EXPECT_EQ(cpu_field(preempt_off), 0);
}

KTEST(context, names_itself)
{
    EXPECT_EQ(cpu_context(), CTX_THREAD);
    preempt_disable();
    EXPECT_EQ(cpu_context(), CTX_ATOMIC);
    preempt_enable();
    EXPECT(in_task());
}

KTEST(log, keeps_lines_in_order_and_cuts_none)
{
    uint64_t sequence = UINT64_MAX;
    char longest[400];
    struct log_line line;
    size_t length = 0;

    EXPECT(!log_read(&sequence, &line));
    sequence = log_first_sequence();
    while (log_read(&sequence, &line)) {
    }
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    printk(LOG_DEBUG, "%s", longest);
    printk(LOG_DEBUG, "core test: two\ncore test: lines");
    while (length < sizeof(longest) - 1 && log_read(&sequence, &line)) {
        if (line.text[0] == 'x') { // other threads may log in between
            length += strlen(line.text);
        }
    }
    EXPECT_EQ(length, sizeof(longest) - 1);
    do {
        REQUIRE(log_read(&sequence, &line));
    } while (strcmp(line.text, "core test: two") != 0);
    do {
        REQUIRE(log_read(&sequence, &line));
    } while (strcmp(line.text, "core test: lines") != 0);
}

static void core_find_resource(uint64_t start, uint64_t end, const char *name, unsigned depth,
                               void *arg)
{
    (void)end;
    if (strcmp(name, "core test inner") == 0 && start == 0xfff0000000001000ull) {
        *(unsigned *)arg = depth + 1;
    }
}

KTEST(resource, nests_and_refuses_to_cross)
{
    const uint64_t base = 0xfff0000000000000ull; // nothing physical is there
    unsigned depth = 0;

    EXPECT_EQ(resource_add(RESOURCE_MEMORY, base + 0x1000, base + 0x1fff, "core test inner"), 0);
    EXPECT_EQ(resource_add(RESOURCE_MEMORY, base, base + 0xffff, "core test outer"), 0);
    resource_walk(RESOURCE_MEMORY, core_find_resource, &depth);
    EXPECT_EQ(depth, 2); // found one level down, though it came first
    EXPECT_EQ(resource_add(RESOURCE_MEMORY, base + 0x1800, base + 0x27ff, "crossing"), -EBUSY);
    EXPECT_EQ(resource_add(RESOURCE_MEMORY, 2, 1, "backwards"), -EINVAL);
    EXPECT_EQ(resource_add(RESOURCE_PORTS, 0, 0x10000, "too far"), -EINVAL);
    EXPECT_EQ(resource_remove(RESOURCE_MEMORY, base, base + 0xffff, "core test outer"), 0);
    depth = 0;
    resource_walk(RESOURCE_MEMORY, core_find_resource, &depth);
    EXPECT_EQ(depth, 1);
    EXPECT_EQ(resource_remove(RESOURCE_MEMORY, base + 0x1000, base + 0x1fff, "core test inner"), 0);
    EXPECT_EQ(resource_remove(RESOURCE_MEMORY, base + 0x1000, base + 0x1fff, "core test inner"),
              -ENOENT);
}

KTEST(kallsyms, finds_names_and_addresses)
{
    uintptr_t offset = 1;
    const char *name = kallsyms_lookup((uintptr_t)trace + 3, &offset);

    REQUIRE(name != NULL);
    EXPECT_EQ(strcmp(name, "trace"), 0);
    EXPECT_EQ(offset, 3);
    EXPECT_EQ(kallsyms_address("trace"), (uintptr_t)trace);
    EXPECT(kallsyms_lookup(0x1234, &offset) == NULL);
    EXPECT_EQ(kallsyms_address("no such symbol"), 0);
}

KTEST(clock, runs_forward_on_every_cpu)
{
    uint64_t last = clock_ns();

    for (unsigned i = 0; i < 10000; i++) {
        uint64_t now = clock_ns();

        REQUIRE(now >= last);
        last = now;
    }
    EXPECT(clock_tsc_hz() > 1000 * 1000);
    EXPECT(time_after(INITIAL_JIFFIES + 300 * HZ + 1, INITIAL_JIFFIES)); // across the wrap
    EXPECT(!time_after(INITIAL_JIFFIES, INITIAL_JIFFIES + 300 * HZ + 1));
}
