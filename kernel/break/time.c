// Standing still, for `break`: with interrupts off, with preemption off, blocked. The police times
// the first two (/proc/latency), the watchdogs find all of them when they last long enough.
//
// Context: thread.
#include <lib/errno.h>
#include <contract/break.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/completion.h>
#include <sched/thread.h>

enum { BREAK_MOST_MS = 60 * 1000, BREAK_MOST_S = 300 };

// A function of its own: a watchdog's interrupt strikes mostly in clock_ns(), which has no frame,
// and then its caller is not seen in the backtrace.
static __noinline void break_spin_ms(uint32_t ms)
{
    uint64_t end_ns = clock_ns() + ms * 1000000ull;

    while (clock_ns() < end_ns) {
        cpu_relax();
    }
}

static int break_irqs_off(const char *argument)
{
    uint32_t ms;
    int err = break_number(argument, 50, BREAK_MOST_MS, &ms);

    if (err == 0) {
        local_irq_disable();
        break_spin_ms(ms);
        local_irq_enable();
    }
    return err;
}

static int break_preempt_off(const char *argument)
{
    uint32_t ms;
    int err = break_number(argument, 50, BREAK_MOST_MS, &ms);

    if (err == 0) {
        preempt_disable();
        break_spin_ms(ms);
        preempt_enable();
    }
    return err;
}

// ---- for the watchdogs --------------------------------------------------------------------------

static void break_soft_thread(void *arg)
{
    preempt_disable();
    break_spin_ms((uint32_t)(uintptr_t)arg * 1000);
    preempt_enable();
}

static void break_hard_thread(void *arg)
{
    local_irq_disable();
    break_spin_ms((uint32_t)(uintptr_t)arg * 1000);
    local_irq_enable();
}

static void break_hung_thread(void *arg)
{
    struct completion never;

    init_completion(&never);
    wait_for_completion_timeout(&never, (uint32_t)(uintptr_t)arg * HZ);
}

// On the last CPU: the first one has the console.
static int break_in_thread(const char *argument, uint32_t fallback_s, void (*fn)(void *arg))
{
    uint32_t s;
    int err = break_number(argument, fallback_s, BREAK_MOST_S, &s);
    unsigned cpu = cpu_count - 1;

    if (err != 0) {
        return err;
    }
    if (!cpumask_test(&cpu_online_mask, cpu)) {
        return -EOPNOTSUPP;
    }
    struct thread *thread = kthread_run_on(cpu, fn, (void *)(uintptr_t)s, "break");
    if (thread == NULL) {
        return -ENOMEM;
    }
    thread_join(thread);
    return 0;
}

static int break_soft_lockup(const char *argument)
{
    return break_in_thread(argument, 25, break_soft_thread);
}

static int break_hard_lockup(const char *argument)
{
    if (cpumask_weight(&cpu_online_mask) < 2) {
        return -EOPNOTSUPP; // nobody would notice
    }
    return break_in_thread(argument, 20, break_hard_thread);
}

static int break_hung_task(const char *argument)
{
    return break_in_thread(argument, 150, break_hung_thread);
}

BREAK("irqs-off", "MS [50]", "interrupts stay off for so long (cat /proc/latency)", "", true,
      break_irqs_off);
BREAK("preempt-off", "MS [50]", "preemption stays off for so long (cat /proc/latency)", "", true,
      break_preempt_off);
BREAK("soft-lockup", "S [25]", "a thread keeps its CPU with preemption off", "BUG: soft lockup",
      true, break_soft_lockup);
BREAK("hard-lockup", "S [20]", "a thread keeps its CPU with interrupts off",
      "Watchdog detected hard LOCKUP", true, break_hard_lockup);
BREAK("hung-task", "S [150]", "a thread blocks and cannot be interrupted", "blocked for more than",
      true, break_hung_task);
