// The books of the CPUs' time: nothing is missing, nothing is counted twice, and each kind of work
// is found in its row. Work here is waiting by the clock, so a slow machine changes nothing.
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/completion.h>
#include <sched/cputime.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>

#include "eventually.h"
#include "every_cpu.h"
#include "message_line.h"

enum {
    CPUTIME_WORK_US = 2000,
    CPUTIME_ROUNDING_NS = 1000, // each row is rounded by itself; a store takes its time
};

// Whoever reads another CPU's books reads the time of day a moment before the CPU's entry becomes
// visible, at worst.
KTEST(cputime, all_kinds_together_are_the_time_since_boot)
{
    for (unsigned round = 0; round < 200; round++) {
        for_each_online_cpu (cpu) {
            uint64_t ns[CPU_TIME_COUNT], sum = 0;
            uint64_t before = clock_ns();

            cputime_read(cpu, ns);
            uint64_t after = clock_ns();
            for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
                sum += ns[what];
            }
            EXPECT(sum + CPUTIME_ROUNDING_NS >= before);
            EXPECT(sum <= after + CPUTIME_ROUNDING_NS);
        }
    }
}

KTEST(cputime, no_row_ever_goes_back)
{
    static uint64_t last[MAX_CPUS][CPU_TIME_COUNT];

    for (unsigned round = 0; round < 2000; round++) {
        for_each_online_cpu (cpu) {
            uint64_t ns[CPU_TIME_COUNT];

            cputime_read(cpu, ns);
            for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
                EXPECT(ns[what] + CPUTIME_ROUNDING_NS >= last[cpu][what]);
                last[cpu][what] = ns[what];
            }
        }
    }
}

static irqreturn_t cputime_handler(int irq __unused, void *dev_id)
{
    uint32_t *calls = dev_id;

    udelay(CPUTIME_WORK_US);
    WRITE_ONCE(*calls, *calls + 1);
    return IRQ_HANDLED;
}

KTEST(cputime, a_handler_is_in_the_row_irq)
{
    static uint32_t calls;
    int irq = message_line_open(cputime_handler, &calls);

    REQUIRE(irq > 0);
    calls = 0;
    for_each_online_cpu (cpu) {
        uint64_t irq_ns = sched_cpu_time_ns(cpu, CPU_IRQ);
        uint32_t before = READ_ONCE(calls);

        message_line_send(irq, cpu);
        EXPECT(message_line_reached(&calls, before + 1));
        // A host that puts the CPU aside in the middle of its entry keeps us from seeing it at
        // once.
        EXPECT(EVENTUALLY(sched_cpu_time_ns(cpu, CPU_IRQ) - irq_ns + CPUTIME_ROUNDING_NS >=
                          CPUTIME_WORK_US * 1000));
    }
    message_line_close(irq, &calls);
}

struct cputime_tasklet {
    struct tasklet_struct tasklet;
    uint32_t runs; // A
};

static void cputime_callback(struct tasklet_struct *t)
{
    udelay(CPUTIME_WORK_US);
    __atomic_fetch_add(&container_of(t, struct cputime_tasklet, tasklet)->runs, 1,
                       __ATOMIC_SEQ_CST);
}

static void cputime_tasklet_on_this_cpu(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    struct cputime_tasklet own = {.runs = 0};
    uint64_t softirq_ns = sched_cpu_time_ns(self->cpu, CPU_SOFTIRQ);
    uint64_t irq_ns = sched_cpu_time_ns(self->cpu, CPU_IRQ);

    tasklet_setup(&own.tasklet, cputime_callback, "cputime");
    local_bh_disable(); // so that it runs here, when they are enabled again
    tasklet_schedule(&own.tasklet);
    local_bh_enable();
    EXPECT(EVENTUALLY(READ_ONCE(own.runs) == 1));
    tasklet_kill(&own.tasklet);
    irq_ns = sched_cpu_time_ns(self->cpu, CPU_IRQ) - irq_ns; // it may have been interrupted
    softirq_ns = sched_cpu_time_ns(self->cpu, CPU_SOFTIRQ) - softirq_ns;
    EXPECT(softirq_ns > 0);
    EXPECT(softirq_ns + irq_ns + CPUTIME_ROUNDING_NS >= CPUTIME_WORK_US * 1000);
}

KTEST(cputime, a_tasklet_is_in_the_row_softirq)
{
    EXPECT(every_cpu_run(ktest, cputime_tasklet_on_this_cpu, NULL));
}

static void cputime_thread_on_this_cpu(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    uint64_t system_ns = sched_cpu_time_ns(self->cpu, CPU_SYSTEM);
    uint64_t others_ns = sched_cpu_time_ns(self->cpu, CPU_IRQ) +
                         sched_cpu_time_ns(self->cpu, CPU_SOFTIRQ) +
                         sched_cpu_time_ns(self->cpu, CPU_USER);

    udelay(CPUTIME_WORK_US);
    others_ns = sched_cpu_time_ns(self->cpu, CPU_IRQ) + sched_cpu_time_ns(self->cpu, CPU_SOFTIRQ) +
                sched_cpu_time_ns(self->cpu, CPU_USER) - others_ns;
    system_ns = sched_cpu_time_ns(self->cpu, CPU_SYSTEM) - system_ns;
    EXPECT(system_ns + others_ns + CPUTIME_ROUNDING_NS >= CPUTIME_WORK_US * 1000);
}

KTEST(cputime, a_thread_of_the_kernel_is_in_the_row_system)
{
    EXPECT(every_cpu_run(ktest, cputime_thread_on_this_cpu, NULL));
}

KTEST(cputime, waiting_is_in_no_row_but_idle)
{
    uint64_t idle_ns = 0, iowait_ns = 0;

    for_each_online_cpu (cpu) {
        idle_ns -= sched_cpu_time_ns(cpu, CPU_IDLE);
        iowait_ns -= sched_cpu_time_ns(cpu, CPU_IOWAIT);
    }
    msleep(20);
    for_each_online_cpu (cpu) {
        idle_ns += sched_cpu_time_ns(cpu, CPU_IDLE);
        iowait_ns += sched_cpu_time_ns(cpu, CPU_IOWAIT);
    }
    EXPECT(idle_ns > 0);
    EXPECT_EQ(iowait_ns, 0);
}

// ---- waiting for a disk -------------------------------------------------------------------------

static struct {
    struct completion disk;
    uint32_t awake; // A: those who have come back
} io;

static void io_waiter(void *arg __unused)
{
    wait_for_completion_io(&io.disk);
    __atomic_fetch_add(&io.awake, 1, __ATOMIC_RELAXED);
}

// While somebody who ran there last waits for a disk, the CPU's idle time has that name, and no
// other CPU's has.
KTEST(cputime, idle_for_a_disk_is_iowait_of_that_cpu)
{
    unsigned last = 0;
    uint64_t before_ns[MAX_CPUS], grown_ns = 0;

    for_each_online_cpu (cpu) {
        last = cpu;
    }
    io.awake = 0;
    init_completion(&io.disk);
    REQUIRE(sched_iowait() == 0);
    struct thread *first = kthread_run_on(last, io_waiter, NULL, "io 1");
    struct thread *second = kthread_run_on(last, io_waiter, NULL, "io 2");
    REQUIRE(first != NULL && second != NULL);
    EXPECT(EVENTUALLY(sched_iowait() == 2));
    EXPECT(sched_blocked() >= 2); // both are load as well
    for_each_online_cpu (cpu) {
        before_ns[cpu] = sched_cpu_time_ns(cpu, CPU_IOWAIT);
    }
    complete(&io.disk); // one of two: it goes on
    EXPECT(EVENTUALLY(sched_iowait() == 1 && __atomic_load_n(&io.awake, __ATOMIC_RELAXED) == 1));
    EXPECT(EVENTUALLY(sched_cpu_time_ns(last, CPU_IOWAIT) > before_ns[last]));
    for_each_online_cpu (cpu) {
        uint64_t ns = sched_cpu_time_ns(cpu, CPU_IOWAIT) - before_ns[cpu];

        if (cpu != last) {
            EXPECT_EQ(ns, 0);
        }
        grown_ns += ns;
    }
    EXPECT(grown_ns > 0);
    complete(&io.disk);
    thread_join(first);
    thread_join(second);
    EXPECT_EQ(sched_iowait(), 0);
    grown_ns = sched_cpu_time_ns(last, CPU_IOWAIT);
    msleep(20);
    EXPECT_EQ(sched_cpu_time_ns(last, CPU_IOWAIT), grown_ns); // nobody waits any more
}

// Who is woken before he has given the CPU away was never counted, and is not taken off.
KTEST(cputime, woken_before_the_sleep_is_not_counted)
{
    set_current_state(THREAD_IOWAIT);
    EXPECT(wake_up_process(current));
    EXPECT_EQ(current->state, THREAD_RUNNING);
    EXPECT_EQ(sched_iowait(), 0);
    schedule(); // comes back
    EXPECT_EQ(sched_iowait(), 0);
}
