// `lab tasklets` and `lab works`: campaigns against the promises of deferred work, from every CPU
// at once, as long as one likes.
//
//   tasklets   one tasklet is never on two CPUs at once, but two tasklets are; a schedule is never
//              lost, however it meets disable, enable and kill
//   works      every item that was queued is executed or was cancelled, once: queueing, delaying,
//              flushing and cancelling the same items, which also queue themselves
//
// Each promise is checked by what the callbacks themselves see, so the campaign can fail. What is
// random is the same each time: the interleaving is what differs.
//
// Context: thread.
#include <lib/parse.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/tasklet.h>
#include <defer/work.h>

enum {
    LAB_DEFER_DEFAULT = 20000,
    LAB_DEFER_MOST = 100000000,
    LAB_DEFER_TASKLETS = 5,
    LAB_DEFER_ITEMS = 6,
    LAB_DEFER_THREADS = 16,
    LAB_DEFER_HOG = 256,
    LAB_DEFER_HOG_US = 30000,
    LAB_DEFER_PATIENCE_MS = 10000,
};

static DEFINE_MUTEX(lab_defer_mutex); // one campaign at a time
static uint32_t lab_defer_share;      // I: operations of each thread
static bool lab_defer_stop;           // A: ^C

static uint32_t lab_defer_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static uint32_t lab_defer_get(const uint32_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

// A counter's new value.
static uint32_t lab_defer_add(uint32_t *counter, uint32_t n)
{
    return __atomic_add_fetch(counter, n, __ATOMIC_SEQ_CST);
}

// Runs fn in a thread on every CPU and waits for all of them. How many there were.
static unsigned lab_defer_everywhere(struct shell *sh, void (*fn)(void *arg), uint32_t operations)
{
    struct thread *threads[LAB_DEFER_THREADS];
    unsigned count = 0;
    unsigned cpus_used = min(cpumask_weight(&cpu_online_mask), (unsigned)LAB_DEFER_THREADS);

    lab_defer_share = operations / cpus_used;
    WRITE_ONCE(lab_defer_stop, false);
    for_each_online_cpu (cpu) {
        if (count < cpus_used) {
            threads[count] = kthread_run_on(cpu, fn, (void *)(uintptr_t)cpu, "lab/%u", cpu);
            count += threads[count] != NULL;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        while (READ_ONCE(threads[i]->state) != THREAD_DEAD) {
            if (shell_interrupted(sh)) {
                WRITE_ONCE(lab_defer_stop, true);
            }
            msleep(5);
        }
        thread_join(threads[i]);
    }
    return count;
}

// ---- tasklets -----------------------------------------------------------------------------------

struct lab_tasklet {
    struct tasklet_struct tasklet;
    uint32_t runs;     // A
    uint32_t inside;   // A: runs that are under way
    uint32_t overlaps; // A: runs that met another of the same tasklet
    uint32_t wanted;   // A: somebody has asked since the last run began
};

static struct lab_tasklet lab_tasklets[LAB_DEFER_TASKLETS];
static uint32_t lab_tasklets_inside, lab_tasklets_most; // A: of all: now, and the most ever
static uint32_t lab_tasklets_asked, lab_tasklets_off, lab_tasklets_killed; // A

static void lab_tasklet_run(struct tasklet_struct *t)
{
    struct lab_tasklet *own = container_of(t, struct lab_tasklet, tasklet);
    uint32_t all = lab_defer_add(&lab_tasklets_inside, 1);
    uint32_t most = lab_defer_get(&lab_tasklets_most);

    while (all > most && !__atomic_compare_exchange_n(&lab_tasklets_most, &most, all, false,
                                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    if (lab_defer_add(&own->inside, 1) != 1) {
        lab_defer_add(&own->overlaps, 1);
    }
    lab_defer_add(&own->runs, 1);
    __atomic_store_n(&own->wanted, 0, __ATOMIC_SEQ_CST); // who asks from here on is owed a run
    for (unsigned i = 0; i < 20; i++) {                  // long enough to be met
        cpu_relax();
    }
    lab_defer_add(&own->inside, UINT32_MAX);
    lab_defer_add(&lab_tasklets_inside, UINT32_MAX);
}

static void lab_tasklet_ask(struct lab_tasklet *own, bool hi)
{
    __atomic_store_n(&own->wanted, 1, __ATOMIC_SEQ_CST);
    lab_defer_add(&lab_tasklets_asked, 1);
    if (hi) {
        tasklet_hi_schedule(&own->tasklet);
    } else {
        tasklet_schedule(&own->tasklet);
    }
}

static void lab_tasklet_disable(struct lab_tasklet *own)
{
    lab_defer_add(&lab_tasklets_off, 1);
    tasklet_disable(&own->tasklet);
    if (lab_defer_get(&own->inside) != 0) { // disabled means: not running
        lab_defer_add(&own->overlaps, 1);
    }
    tasklet_enable(&own->tasklet);
}

// A kill may take somebody's schedule along: that is what it is for. So who kills asks again for
// what was wanted.
static void lab_tasklet_kill(struct lab_tasklet *own)
{
    lab_defer_add(&lab_tasklets_killed, 1);
    tasklet_kill(&own->tasklet);
    if (lab_defer_get(&own->wanted) != 0) {
        lab_tasklet_ask(own, false);
    }
}

static void lab_tasklets_thread(void *arg)
{
    uint32_t random = 12345 + 977 * (uint32_t)(uintptr_t)arg;

    for (uint32_t i = 0; i < lab_defer_share && !READ_ONCE(lab_defer_stop); i++) {
        struct lab_tasklet *own = &lab_tasklets[lab_defer_random(&random) % LAB_DEFER_TASKLETS];
        uint32_t what = lab_defer_random(&random) % 1000;

        if (what < 898) {
            lab_tasklet_ask(own, what % 4 == 0);
        } else if (what < 998) {
            lab_tasklet_disable(own);
        } else {
            lab_tasklet_kill(own);
        }
    }
}

static int lab_tasklets_report(struct shell *sh, unsigned threads)
{
    uint32_t lost = 0, overlaps = 0;
    uint64_t runs = 0;

    for (unsigned i = 0; i < LAB_DEFER_TASKLETS; i++) {
        struct lab_tasklet *own = &lab_tasklets[i];

        for (unsigned ms = 0; ms < LAB_DEFER_PATIENCE_MS && lab_defer_get(&own->wanted) != 0;
             ms++) {
            msleep(1);
        }
        tasklet_kill(&own->tasklet);
        lost += lab_defer_get(&own->wanted);
        overlaps += lab_defer_get(&own->overlaps);
        runs += lab_defer_get(&own->runs);
    }
    shell_printf(sh,
                 "%u threads on %u tasklets: %u schedules, %u times disabled and enabled, "
                 "%u kills\n",
                 threads, LAB_DEFER_TASKLETS, lab_tasklets_asked, lab_tasklets_off,
                 lab_tasklets_killed);
    shell_printf(sh,
                 "%llu runs; at once: one tasklet %s on two CPUs, up to %u tasklets together; "
                 "lost: %u\n",
                 (unsigned long long)runs, overlaps == 0 ? "never" : "WAS", lab_tasklets_most,
                 lost);
    return overlaps == 0 && lost == 0 ? 0 : 1;
}

static int lab_tasklets_campaign(struct shell *sh, uint32_t operations)
{
    lab_tasklets_inside = lab_tasklets_most = 0;
    lab_tasklets_asked = lab_tasklets_off = lab_tasklets_killed = 0;
    for (unsigned i = 0; i < LAB_DEFER_TASKLETS; i++) {
        lab_tasklets[i] = (struct lab_tasklet){0};
        tasklet_setup(&lab_tasklets[i].tasklet, lab_tasklet_run, "lab");
    }
    return lab_tasklets_report(sh, lab_defer_everywhere(sh, lab_tasklets_thread, operations));
}

// ---- works --------------------------------------------------------------------------------------

struct lab_item {
    struct delayed_work delayed;
    uint32_t inside, overlaps, executed; // A
};

static struct lab_item lab_items[LAB_DEFER_ITEMS];
static struct workqueue_struct *lab_queues[3];                            // I
static uint32_t lab_items_queued, lab_items_cancelled, lab_items_flushed; // A
static uint32_t lab_items_again;                                          // A: by themselves
static uint64_t lab_items_hogs; // runs that were found to compute for long, before

static void lab_item_run(struct work_struct *work)
{
    struct lab_item *own = container_of(work, struct lab_item, delayed.work);
    uint32_t runs = lab_defer_add(&own->executed, 1);

    if (lab_defer_add(&own->inside, 1) != 1) {
        lab_defer_add(&own->overlaps, 1);
    }
    if (runs % LAB_DEFER_HOG == 0) {
        udelay(LAB_DEFER_HOG_US); // and so they do after a while, when it computes
    } else if (runs % 64 == 0) {
        msleep(1); // its CPU's other items go on meanwhile
    } else if (runs % 16 == 0) {
        yield();
    }
    if (runs % 5 == 0 && queue_work(lab_queues[runs % 3], work)) {
        lab_defer_add(&lab_items_queued, 1);
        lab_defer_add(&lab_items_again, 1);
    }
    lab_defer_add(&own->inside, UINT32_MAX);
}

static void lab_works_thread(void *arg)
{
    uint32_t random = 99 + 313 * (uint32_t)(uintptr_t)arg;

    for (uint32_t i = 0; i < lab_defer_share && !READ_ONCE(lab_defer_stop); i++) {
        struct lab_item *own = &lab_items[lab_defer_random(&random) % LAB_DEFER_ITEMS];
        struct workqueue_struct *wq = lab_queues[lab_defer_random(&random) % 3];
        uint32_t what = lab_defer_random(&random) % 1000;

        if (what < 700) {
            unsigned cpu = lab_defer_random(&random) % cpu_count;
            lab_defer_add(&lab_items_queued, queue_work_on(cpu, wq, &own->delayed.work));
        } else if (what < 900) {
            lab_defer_add(&lab_items_queued, queue_delayed_work(wq, &own->delayed, what % 3));
        } else if (what < 990) {
            lab_defer_add(&lab_items_cancelled, cancel_delayed_work_sync(&own->delayed));
        } else {
            lab_defer_add(&lab_items_flushed, 1);
            flush_work(&own->delayed.work);
        }
    }
}

static int lab_works_report(struct shell *sh, unsigned threads)
{
    uint32_t executed = 0, overlaps = 0, left = 0;

    for (unsigned i = 0; i < LAB_DEFER_ITEMS; i++) {
        lab_items_cancelled += cancel_delayed_work_sync(&lab_items[i].delayed);
        executed += lab_items[i].executed;
        overlaps += lab_items[i].overlaps;
        left += lab_items[i].delayed.work.pending;
    }
    shell_printf(sh,
                 "%u threads on %u items and 3 queues: %u queued (%u by the items themselves), "
                 "%u flushes, %llu hogs\n",
                 threads, LAB_DEFER_ITEMS, lab_items_queued, lab_items_again, lab_items_flushed,
                 (unsigned long long)(work_intensive_count(lab_item_run) - lab_items_hogs));
    shell_printf(sh, "executed %u + cancelled %u %s queued %u; an item was %s run twice at once\n",
                 executed, lab_items_cancelled,
                 executed + lab_items_cancelled == lab_items_queued ? "=" : "IS NOT",
                 lab_items_queued, overlaps == 0 ? "never" : "OFTEN");
    return executed + lab_items_cancelled == lab_items_queued && overlaps == 0 && left == 0 ? 0 : 1;
}

static int lab_works_campaign(struct shell *sh, uint32_t operations)
{
    lab_items_queued = lab_items_cancelled = lab_items_flushed = lab_items_again = 0;
    lab_items_hogs = work_intensive_count(lab_item_run);
    lab_queues[0] = system_wq;
    lab_queues[1] = system_highpri_wq;
    lab_queues[2] = system_unbound_wq;
    for (unsigned i = 0; i < LAB_DEFER_ITEMS; i++) {
        lab_items[i] = (struct lab_item){0};
        INIT_DELAYED_WORK(&lab_items[i].delayed, lab_item_run);
    }
    return lab_works_report(sh, lab_defer_everywhere(sh, lab_works_thread, operations));
}

// ---- the labs -----------------------------------------------------------------------------------

static int lab_defer_run(struct shell *sh, int argc, char **argv,
                         int (*campaign)(struct shell *sh, uint32_t operations))
{
    uint32_t operations = LAB_DEFER_DEFAULT;

    if (argc > 2 || (argc == 2 && (kstrtou32(argv[1], 10, &operations) != 0 || operations == 0 ||
                                   operations > LAB_DEFER_MOST))) {
        return shell_error(sh, "%s: how many operations? 1 to %d", argv[argc - 1], LAB_DEFER_MOST);
    }
    if (!mutex_trylock(&lab_defer_mutex)) {
        return shell_error(sh, "%s: a campaign is under way", argv[0]);
    }
    int status = campaign(sh, operations);
    mutex_unlock(&lab_defer_mutex);
    return shell_interrupted(sh) ? 130 : status;
}

static int lab_run_tasklets(struct shell *sh, int argc, char **argv)
{
    return lab_defer_run(sh, argc, argv, lab_tasklets_campaign);
}

static int lab_run_works(struct shell *sh, int argc, char **argv)
{
    return lab_defer_run(sh, argc, argv, lab_works_campaign);
}

LAB("tasklets", lab_run_tasklets, "[OPERATIONS]",
    "schedule, disable and kill from every CPU: never twice at once, none lost");
LAB("works", lab_run_works, "[OPERATIONS]",
    "queue, delay, cancel and flush from every CPU: executed + cancelled = queued");
