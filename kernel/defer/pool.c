// Worker pools: the threads behind workqueues, kworker/N:M.
//
//               queue_work
//                   │                      ┌── busy: one is running, the others sleep in their items
//     items ──o──o──o                      │
//       │                                  v
//       └──────── worker takes the oldest ───> func(work), may sleep
//                    ^
//                    └── idle: at least one, to take over
//
// Each CPU has a pool whose workers are tied to it. One running worker is enough for a CPU, so
// another is woken only when the running one falls asleep in its item: the scheduler tells us
// (thread->sleep_hook). So items that sleep do not hold up those behind them, and items that do not
// sleep cost no thread switch between them. An unbound pool has no such thrift: a worker for each
// item, on any CPU.
//
// A worker that begins to work while no other is idle first makes one; at POOL_MAX_WORKERS it goes
// without, and items wait. Workers that had nothing to do for a while end, but for POOL_KEEP_IDLE.
//
// The same item never runs twice at once: a worker that takes an item which a colleague is just
// running leaves it to him.
//
// Context: workers are threads; pool_kick any.
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/slab.h>
#include <sched/thread.h>
#include <sched/wait.h>
#include <defer/work.h>

#include "pool.h"

enum {
    POOL_MAX_WORKERS = 32,
    POOL_KEEP_IDLE = 2,
    POOL_IDLE_TICKS = 60 * HZ,
};

static bool pool_needs_worker(const struct worker_pool *pool)
{
    return !list_empty(&pool->items) && (pool->cpu < 0 || pool->running == 0);
}

void pool_kick(struct worker_pool *pool)
{
    if (pool_needs_worker(pool) && !list_empty(&pool->idle)) {
        wake_up_process(list_first_entry(&pool->idle, struct worker, link)->thread);
    }
}

struct worker *pool_runner_of(const struct worker_pool *pool, const struct work_struct *work)
{
    struct worker *worker;

    list_for_each_entry (worker, &pool->busy, link) {
        // An address may be in use for something else by now; one with another function is not this
        // item.
        if (worker->item == work && worker->func == work->func) {
            return worker;
        }
    }
    return NULL;
}

// The scheduler's word that a worker sleeps, or has woken. In the worker's own context.
static void worker_sleep_hook(struct thread *thread, bool asleep)
{
    struct worker *worker = thread->arg;
    struct worker_pool *pool = worker->pool;
    unsigned long flags;

    if (worker->item == NULL) { // it has no item: it is idle, or makes a colleague
        return;
    }
    spin_lock_irqsave(&pool->lock, flags);
    if (asleep && !worker->asleep) {
        worker->asleep = true;
        pool->running--;
        pool_kick(pool);
    } else if (!asleep && worker->asleep) {
        worker->asleep = false;
        pool->running++;
    }
    spin_unlock_irqrestore(&pool->lock, flags);
}

// ---- running items -----------------------------------------------------------------------------

static void worker_check_context(const struct worker *worker)
{
    if (unlikely(in_atomic())) {
        pr_err("BUG: work item came back in atomic context: %s, preempt_off %u, function at %p",
               worker->thread->name, cpu_field(preempt_off), (void *)(uintptr_t)worker->func);
        WARN_ON(true);
        cpu_self()->preempt_off = 0;
        local_irq_enable();
    }
}

// Runs the oldest item. The pool's lock is held, but not while the function runs.
static void worker_run_item(struct worker *worker)
{
    struct worker_pool *pool = worker->pool;
    struct work_struct *work = list_first_entry(&pool->items, struct work_struct, link);
    struct worker *colleague = pool_runner_of(pool, work);
    struct workqueue_struct *wq = work->wq;
    uint8_t color = work->color;

    list_del_init(&work->link);
    if (colleague != NULL) {
        list_add_tail(&work->link, &colleague->postponed);
        return;
    }
    worker->func = work->func;
    worker->sequence = work->sequence;
    worker->item = work;
    list_add(&worker->link, &pool->busy);
    pool->running++;
    pool_kick(pool); // unbound: there may be more
    // From here on the item may be queued again, and the function may free it. An exchange, as a
    // full barrier: who finds `pending` set has written what the function is to see.
    __atomic_exchange_n(&work->pending, 0, __ATOMIC_SEQ_CST);
    spin_unlock_irq(&pool->lock);

    trace(TRACE_WORK_START, 0, (uintptr_t)worker->func);
    worker->func(work);
    trace(TRACE_WORK_END, 0, (uintptr_t)worker->func);
    worker_check_context(worker);

    spin_lock_irq(&pool->lock);
    pool->running--;
    pool->executed++;
    list_del(&worker->link);
    worker->item = NULL;
    while (!list_empty(&worker->postponed)) { // back to the front, in their order
        struct work_struct *again = list_entry(worker->postponed.prev, struct work_struct, link);
        list_del(&again->link);
        list_add(&again->link, &pool->items);
    }
    work_finished(wq, pool, color);
    if (pool->flushers != 0) {
        wake_up_all(&pool->finished);
    }
}

// ---- workers -----------------------------------------------------------------------------------

static bool worker_make(struct worker_pool *pool);

// Falls asleep as an idle worker until somebody kicks the pool. True: it has been idle for long and
// should end. The lock is held on entry and exit.
static bool worker_idle(struct worker *worker)
{
    struct worker_pool *pool = worker->pool;
    uint32_t left;

    list_add(&worker->link, &pool->idle);
    pool->idle_count++;
    current->wait_channel = "worker pool";
    set_current_state(THREAD_IDLE);
    spin_unlock_irq(&pool->lock);
    left = schedule_timeout(POOL_IDLE_TICKS);
    spin_lock_irq(&pool->lock);
    list_del(&worker->link);
    pool->idle_count--;
    return left == 0 && pool->idle_count >= POOL_KEEP_IDLE && !pool_needs_worker(pool);
}

// Somebody must be idle while we work. The lock is dropped meanwhile.
static void worker_make_successor(struct worker_pool *pool)
{
    if (!list_empty(&pool->idle) || pool->creating || pool->workers >= POOL_MAX_WORKERS) {
        return;
    }
    pool->creating = true;
    pool->workers++;
    spin_unlock_irq(&pool->lock);
    bool made = worker_make(pool);
    spin_lock_irq(&pool->lock);
    if (!made) {
        pool->creating = false;
        pool->workers--;
        pr_ratelimited(LOG_WARNING, "workqueue: no memory for one more worker");
    }
}

static void worker_thread(void *arg)
{
    struct worker *worker = arg;
    struct worker_pool *pool = worker->pool;

    worker->thread = current;
    current->sleep_hook = worker_sleep_hook;
    if (pool->highpri) {
        sched_set_nice(current, -20);
    }
    spin_lock_irq(&pool->lock);
    pool->creating = false;
    for (;;) {
        while (pool_needs_worker(pool)) {
            worker_make_successor(pool);
            if (pool_needs_worker(pool)) {
                worker_run_item(worker);
            }
        }
        if (worker_idle(worker)) {
            break;
        }
    }
    pool->workers--;
    spin_unlock_irq(&pool->lock);
    current->sleep_hook = NULL;
    kfree(worker);
}

static struct thread *worker_start(struct worker *worker)
{
    struct worker_pool *pool = worker->pool;
    const char *suffix = pool->highpri ? "H" : "";

    if (pool->cpu < 0) {
        return kthread_run(worker_thread, worker, "kworker/u%u:%d%s", 2 * cpu_count, worker->id,
                           suffix);
    }
    return kthread_run_on((unsigned)pool->cpu, worker_thread, worker, "kworker/%d:%d%s", pool->cpu,
                          worker->id, suffix);
}

static bool worker_make(struct worker_pool *pool)
{
    struct worker *worker = kzalloc(sizeof(*worker), GFP_KERNEL);
    struct thread *thread;

    if (worker == NULL) {
        return false;
    }
    worker->pool = pool;
    INIT_LIST_HEAD(&worker->postponed);
    spin_lock_irq(&pool->lock);
    worker->id = (int)pool->next_id++;
    spin_unlock_irq(&pool->lock);
    thread = worker_start(worker);
    if (thread == NULL) {
        kfree(worker);
        return false;
    }
    thread_put(thread); // it ends by itself
    return true;
}

struct worker_pool *pool_make(int cpu, bool highpri)
{
    struct worker_pool *pool = kzalloc(sizeof(*pool), GFP_KERNEL);

    if (pool == NULL) {
        return NULL;
    }
    spin_lock_init(&pool->lock, "worker pool");
    init_waitqueue_head(&pool->finished, "flush_work");
    pool->cpu = cpu;
    pool->highpri = highpri;
    INIT_LIST_HEAD(&pool->items);
    INIT_LIST_HEAD(&pool->idle);
    INIT_LIST_HEAD(&pool->busy);
    pool->creating = true;
    pool->workers = 1;
    if (!worker_make(pool)) {
        kfree(pool);
        return NULL;
    }
    return pool;
}
