// Work in every order of steps: kernel/defer/work.c, workqueue.c, rescuer.c and pool.c as they are,
// compiled here with a step before each of their atomic accesses; the workers are actors
// (tests/host/interleave.c). What is looked at in each way:
//
//   twice at once   the item's function runs in two workers
//   lost            executed and cancelled are not together what was queued; or what somebody had
//                   to show before he queued it is not seen by any run
//   flushed         flush_work() comes back before a run of what was queued before it has ended
//   cancelled       it runs, or is pending, when cancel_work_sync() has returned
//
// A pool has one worker here, or two where an item sleeps, and is full: how workers are made is not
// looked at, nor is delay. The last test seeds mistakes, each of which must be found.
//
// links: tests/host/interleave.c kernel/sched/wait.c kernel/lib/text.c kernel/lib/format.c
// links: kernel/lib/string.c kernel/lib/cpumask.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include <lib/errno.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <sched/wait.h>
#include <defer/timer.h>
#include <defer/work.h>

#include "interleave.h"

enum { MEMORY = 64 << 10 };

// The item, and what is known of it.
static struct {
    struct work_struct work;
    unsigned shown, seen;                // by those who queue it, by the runs
    unsigned begun, ended;               // askings
    unsigned runs, inside;               // begun; under way
    unsigned queued, cancelled, cancels; // successes; and all cancellings
    unsigned again;                      // so often it queues itself
    bool at_rest;                        // cancelled, and so it stays until
    unsigned rests_until;                // more than so many askings have begun
} item;

// ---- the sources under test, with mistakes -------------------------------------------------------

static enum seed {
    NO_MISTAKE,
    CLEARED_LATE,   // `pending` is cleared when the function has run, not before
    RUNS_ELSEWHERE, // nobody looks whether it runs in another pool before it is given to one
    NOT_WAITED,     // flush and cancel do not wait for a run
} seed;

#define STEP(order) ((order) == __ATOMIC_RELAXED ? (void)0 : step())

#define __atomic_fetch_add(at, by, order)  (STEP(order), __atomic_fetch_add(at, by, order))
#define __atomic_fetch_sub(at, by, order)  (STEP(order), __atomic_fetch_sub(at, by, order))
#define __atomic_sub_fetch(at, by, order)  (STEP(order), __atomic_sub_fetch(at, by, order))
#define __atomic_fetch_xor(at, by, order)  (STEP(order), __atomic_fetch_xor(at, by, order))
#define __atomic_load_n(at, order)         (STEP(order), __atomic_load_n(at, order))
#define __atomic_store_n(at, value, order) (STEP(order), __atomic_store_n(at, value, order))
#define __atomic_thread_fence(order)       (STEP(order), __atomic_thread_fence(order))
#define __atomic_exchange_n(at, value, order)                                \
    (STEP(order), seed == CLEARED_LATE && (void *)(at) == &item.work.pending \
                      ? *(at)                                                \
                      : __atomic_exchange_n(at, value, order))
#define __atomic_compare_exchange_n(at, old, value, weak, order, failure) \
    (STEP(order), __atomic_compare_exchange_n(at, old, value, weak, order, failure))
#define local_irq_save()         (step_irqs_off(), CPU_FLAGS_IF)
#define local_irq_restore(flags) ((void)(flags), step_irqs_on())
#define cpu_relax()              spin()

#include "kernel/defer/pool.c"

#define pool_runner_of(pool, work)                                       \
    (seed == RUNS_ELSEWHERE && strcmp(__func__, "work_lock_target") == 0 \
         ? NULL                                                          \
         : (pool_runner_of)(pool, work))
#undef wait_event
#define wait_event(queue, condition) \
    (seed == NOT_WAITED              \
         ? (void)0                   \
         : (void)wait_event_common(queue, condition, THREAD_BLOCKED, MAX_SCHEDULE_TIMEOUT, false))

#include "kernel/defer/rescuer.c"
#include "kernel/defer/work.c"
#include "kernel/defer/workqueue.c"

#undef __atomic_fetch_add
#undef __atomic_fetch_sub
#undef __atomic_sub_fetch
#undef __atomic_fetch_xor
#undef __atomic_load_n
#undef __atomic_store_n
#undef __atomic_thread_fence
#undef __atomic_exchange_n
#undef __atomic_compare_exchange_n

// ---- what they ask for ---------------------------------------------------------------------------

unsigned cpu_count = 2;
struct cpumask cpu_online_mask;
volatile uint32_t jiffies;
uint32_t warn_count;
static _Alignas(64) char memory[MEMORY];
static size_t memory_used; // given back when the way is over

void *kzalloc(size_t size, enum gfp flags)
{
    (void)flags;
    size = (size + 63) & ~(size_t)63;
    assert_true(memory_used + size <= sizeof(memory));
    memory_used += size;
    return memset(memory + memory_used - size, 0, size);
}

void *kcalloc(size_t count, size_t size, enum gfp flags)
{
    return kzalloc(count * size, flags);
}

void kfree(const void *pointer)
{
    (void)pointer;
}

struct thread *kthread_run_on(unsigned cpu, void (*fn)(void *arg), void *arg,
                              const char *name_format, ...)
{
    (void)name_format;
    return actor_spawn(fn, arg, cpu);
}

void thread_put(struct thread *thread)
{
    (void)thread;
}

uint32_t schedule_timeout(uint32_t timeout_jiffies) // who finds it being cancelled looks again
{
    (void)timeout_jiffies;
    current->state = THREAD_RUNNING;
    spin();
    return 0;
}

void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    current->state = THREAD_RUNNING;
    step();
    if (__atomic_load_n(&entry->link.prev, __ATOMIC_ACQUIRE) != &entry->link) {
        wait_entry_remove(queue, entry);
    }
}

void trace(enum trace_event event, uint32_t a, uint64_t b)
{
    (void)a;
    (void)b;
    if (seed == CLEARED_LATE && event == TRACE_WORK_END) {
        item.work.pending = WORK_IDLE;
    }
}

void warn_at(const char *file, int line, const char *what)
{
    (void)file;
    (void)line;
    (void)what;
    search.wrong++;
}

void preempt_enable_slow(void)
{
}

void timer_setup(struct timer_list *timer, void (*fn)(struct timer_list *timer), unsigned flags)
{
    (void)flags;
    *timer = (struct timer_list){.function = fn};
}

bool work_is_intensive(int64_t cycles)
{
    (void)cycles;
    return false;
}

int del_timer(struct timer_list *timer)
{
    (void)timer;
    return 0;
}

void mutex_init(struct mutex *mutex, const char *name)
{
    *mutex = (struct mutex){.name = name};
}

// The rest of what is called by name is on no way here.
#define NOT_HERE(prototype)                 \
    prototype                               \
    {                                       \
        fail_msg("%s: not here", __func__); \
        __builtin_unreachable();            \
    }
#pragma GCC diagnostic ignored "-Wunused-parameter"
NOT_HERE(bool timer_pending(const struct timer_list *timer))
NOT_HERE(int mod_timer(struct timer_list *timer, uint32_t expires_jiffies))
NOT_HERE(void mutex_lock(struct mutex *mutex))
NOT_HERE(void mutex_unlock(struct mutex *mutex))
NOT_HERE(struct thread *kthread_run(void (*fn)(void *arg), void *arg, const char *format, ...))
NOT_HERE(bool kthread_should_stop(void))
NOT_HERE(void kthread_stop(struct thread *thread))
NOT_HERE(bool wake_up_process(struct thread *thread))
NOT_HERE(void sched_set_nice(struct thread *thread, int nice))
NOT_HERE(bool log_limit_ok(struct log_limit *limit, uint32_t *held_back))
NOT_HERE(void printk(enum log_level level, const char *format, ...))
NOT_HERE(void panic(const char *format, ...))
NOT_HERE(void work_show_intensive(struct text *t))

// ---- actors --------------------------------------------------------------------------------------

static struct workqueue_struct *queue;

static void put(unsigned cpu)
{
    item.begun++;
    item.shown++;
    item.queued += queue_work_on(cpu, queue, &item.work);
    item.ended++;
}

static struct wait_queue_head gate;
static bool gate_is_open;

static bool look_at_gate(void)
{
    step();
    return gate_is_open;
}

static void function(struct work_struct *work)
{
    (void)work;
    search.wrong += item.inside++ != 0;
    search.wrong += item.at_rest && item.begun == item.rests_until;
    item.runs++;
    item.seen = item.shown;
    step();
    wait_event(&gate, look_at_gate()); // another worker may go on
    if (item.again != 0) {
        item.again--;
        put(0);
    }
    step();
    item.inside--;
}

static void putter(void)
{
    put(0);
}

static void putter_elsewhere(void)
{
    put(1);
}

static void putter_twice(void)
{
    put(0);
    put(1);
}

static void putter_and_opener(void)
{
    put(0);
    step();
    gate_is_open = true;
    wake_up(&gate);
}

// Nobody is queueing it, and nobody will but who begins from here on.
static bool none_comes(void)
{
    return item.begun == item.ended && item.again == 0;
}

static void flusher(void)
{
    unsigned shown = item.begun == item.ended ? item.shown : 0;
    unsigned begun = item.begun, run = item.inside != 0 ? item.runs : 0;
    bool quiet = none_comes();

    flush_work(&item.work);
    search.wrong += item.cancels == 0 && item.seen < shown;
    search.wrong += item.inside != 0 && item.runs == run;
    search.wrong += item.inside != 0 && quiet && item.begun == begun;
}

static void putter_and_flusher(void)
{
    put(0);
    flusher();
}

static void canceller(void)
{
    unsigned begun = item.begun, run = item.inside != 0 ? item.runs : 0;
    bool quiet = none_comes();

    item.cancels++; // from here on it may be refused
    item.cancelled += cancel_work_sync(&item.work);
    search.wrong += item.inside != 0 && item.runs == run;
    search.wrong += item.inside != 0 && quiet && item.begun == begun;
    item.at_rest = quiet;
    item.rests_until = begun;
}

static void putter_and_canceller(void)
{
    put(0);
    canceller();
}

// ---- scenes --------------------------------------------------------------------------------------

static void make_pool(unsigned cpu)
{
    work_pools[cpu][0] = pool_make((int)cpu, false);
    work_pools[cpu][0]->workers = POOL_MAX_WORKERS;
}

static void set_up(unsigned pools, void (*one)(void), void (*other)(void))
{
    memset(&item, 0, sizeof(item));
    INIT_WORK(&item.work, function);
    memory_used = 0;
    gate_is_open = true;
    init_waitqueue_head(&gate, "gate");
    actor_add(one, 0, ACTOR_THREAD, NULL);
    actor_add(other, 1, ACTOR_THREAD, NULL);
    for (unsigned cpu = 0; cpu < pools; cpu++) {
        make_pool(cpu);
    }
    queue = wq_make("test", 0, 0);
}

static void at_end(void)
{
    search.wrong += item.inside != 0 || item.work.pending != WORK_IDLE;
    search.wrong += item.runs + item.cancelled != item.queued;
    search.wrong += item.cancels == 0 && item.seen != item.shown;
    search.wrong += queue->in_flight[0] + queue->in_flight[1] != 0;
    search.wrong += work_pools[0][0]->running != 0 || work_pools[0][0]->flushers != 0;
}

static void two_queue(void)
{
    set_up(1, putter, putter);
}

static void two_queue_on_two_cpus(void)
{
    set_up(2, putter_twice, putter_elsewhere);
}

static void it_sleeps(void)
{
    set_up(1, putter, putter_and_opener);
    worker_make(work_pools[0][0]);
    gate_is_open = false;
}

static void it_queues_itself(void)
{
    set_up(1, putter, putter_and_flusher);
    item.again = 1;
}

static void one_flushes(void)
{
    set_up(1, putter_and_flusher, putter);
}

static void one_flushes_what_another_queued(void)
{
    set_up(1, putter, flusher);
}

static void one_cancels(void)
{
    set_up(1, putter, canceller);
}

static void one_cancels_its_own(void)
{
    set_up(2, putter_and_canceller, putter_elsewhere);
}

static void two_cancel(void)
{
    set_up(1, putter_and_canceller, canceller);
}

static void one_cancels_what_queues_itself(void)
{
    set_up(1, putter, canceller);
    item.again = 2;
}

static void one_cancels_and_one_flushes(void)
{
    set_up(1, putter_and_canceller, putter_and_flusher);
}

static void expect_right(const char *name, void (*scene)(void), unsigned switches,
                         uint64_t at_least)
{
    seed = NO_MISTAKE;
    explore(scene, at_end, switches);
    print_message("%-32s %8llu ways\n", name, (unsigned long long)search.ways);
    assert_int_equal(search.lost, 0);
    assert_int_equal(search.wrong, 0);
    assert_int_equal(search.doubles, 0);
    assert_true(search.ways >= at_least); // it did try
}
#define EXPECT_RIGHT(scene, switches, at_least) expect_right(#scene, scene, switches, at_least)

static void test_queue(void **state)
{
    (void)state;
    EXPECT_RIGHT(two_queue, 3, 10000);
    EXPECT_RIGHT(two_queue_on_two_cpus, 2, 1000);
    EXPECT_RIGHT(it_sleeps, 2, 1000);
    EXPECT_RIGHT(it_queues_itself, 2, 1000);
}

static void test_flush(void **state)
{
    (void)state;
    EXPECT_RIGHT(one_flushes, 2, 1000);
    EXPECT_RIGHT(one_flushes_what_another_queued, 2, 1000);
}

static void test_cancel(void **state)
{
    (void)state;
    EXPECT_RIGHT(one_cancels, 2, 1000);
    EXPECT_RIGHT(one_cancels_its_own, 2, 1000);
    EXPECT_RIGHT(two_cancel, 2, 1000);
    EXPECT_RIGHT(one_cancels_what_queues_itself, 2, 1000);
    EXPECT_RIGHT(one_cancels_and_one_flushes, 2, 1000);
}

// ---- seeded mistakes -----------------------------------------------------------------------------

static void expect_found(enum seed mistake, void (*scene)(void))
{
    seed = mistake;
    explore_mistake(mistake, scene, at_end, 2);
}

static void test_seeded_mistakes_are_found(void **state)
{
    (void)state;
    expect_found(CLEARED_LATE, two_queue);
    expect_found(RUNS_ELSEWHERE, two_queue_on_two_cpus);
    expect_found(NOT_WAITED, one_cancels);
    expect_found(NOT_WAITED, one_flushes_what_another_queued);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_seeded_mistakes_are_found),
    };

    return interleave_run_tests(tests);
}
