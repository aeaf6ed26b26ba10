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
// sleep cost no thread switch between them. An item that computes for long would hold them all up:
// at the tick that finds it so it is taken out of the count (intensive.c), and another worker goes
// on beside it; items of a WQ_CPU_INTENSIVE queue do not count from the start. An unbound pool has
// no such thrift: a worker for each item, on any CPU.
//
// A worker that begins to work while no other is idle first makes one; at POOL_MAX_WORKERS it goes
// without, and items wait. When there is no memory for one it does not begin at all but tries
// again: if it worked too, and fell asleep for something that a later item brings, nobody would be
// left to make the worker for that item. Meanwhile the queues that must not wait for memory,
// because memory may be waiting for them (WQ_MEM_RECLAIM: writing pages out, mending a disk), send
// their rescuers: threads made in advance, one for each such queue. Workers that had nothing to do
// for a while end, but for POOL_KEEP_IDLE.
//
// The same item never runs twice at once: a worker that takes an item which a colleague is just
// running leaves it to him.
//
// Context: workers are threads; pool_kick any; wq_worker_tick hard irq.
#include <core/clock.h>
#include <core/lockdep.h>
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
    POOL_RETRY_TICKS = HZ / 10,
};

uint32_t worker_make_failures;

static bool pool_needs_worker(const struct worker_pool *pool)
{
    return !list_empty(&pool->items) && (pool->cpu < 0 || pool->running == 0);
}

// Nobody is there to take the next item, and nobody can be made: those queues that have a rescuer
// send him.
static void pool_call_rescuers(struct worker_pool *pool)
{
    struct work_struct *work;

    list_for_each_entry (work, &pool->items, link) {
        work_call_rescuer(work->wq, pool);
    }
}

void pool_kick(struct worker_pool *pool)
{
    if (!pool_needs_worker(pool)) {
        return;
    }
    if (likely(!list_empty(&pool->idle))) {
        sched_wake_atomic(list_first_entry(&pool->idle, struct worker, link)->thread);
    } else if (pool->short_of_workers || pool->busy_count == pool->workers) {
        pool_call_rescuers(pool);
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

// The scheduler's word that a worker sleeps in its item, or has woken. In the worker's own context.
static void worker_sleep_hook(struct thread *thread, bool asleep)
{
    struct worker *worker = thread->arg;
    struct worker_pool *pool = worker->pool;
    unsigned long flags;

    spin_lock_irqsave(&pool->lock, flags);
    if (asleep != worker->asleep && !worker->intensive) {
        worker->asleep = asleep;
        if (asleep) {
            pool->running--;
            pool_kick(pool);
        } else {
            pool->running++;
            worker->began = (int64_t)READ_ONCE(thread->runtime);
        }
    }
    spin_unlock_irqrestore(&pool->lock, flags);
}

// The worker whose thread runs on this CPU, in its item, be it interrupted; or NULL.
static struct worker *worker_on_cpu(void)
{
    return current->sleep_hook == worker_sleep_hook ? current->arg : NULL;
}

// What the tick interrupted may be an item that has had the CPU for long: it is not counted any
// more, so that those behind it need not wait. `asleep` and `intensive` change on this CPU only.
void wq_worker_tick(void)
{
    lockdep_assert_irqs_disabled();
    struct worker *worker = worker_on_cpu();
    struct worker_pool *pool;

    if (likely(worker == NULL) || worker->intensive || worker->asleep || worker->pool->cpu < 0 ||
        !work_is_intensive((int64_t)current->runtime - worker->began)) {
        return;
    }
    pool = worker->pool;
    spin_lock(&pool->lock);
    worker->intensive = true;
    pool->running--;
    pool->hogs++;
    pool_kick(pool);
    spin_unlock(&pool->lock);
    trace(TRACE_WORK_INTENSIVE, 0, (uintptr_t)worker->func);
    work_note_intensive(worker->func);
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

static void worker_call(struct worker *worker, struct work_struct *work)
{
    work_func_t func = worker->func;
    uint64_t now = rdtsc();
    uint64_t unbooked = now - READ_ONCE(current->switched_in); // first: else it may come out early

    worker->began = (int64_t)(READ_ONCE(current->runtime) + unbooked);
    trace_at(now, TRACE_WORK_START, 0, (uintptr_t)func);
    lockdep_function_begins(func);
    func(work);
    lockdep_function_ends(func);
    worker->began = WORKER_NOT_BEGUN;
    trace(TRACE_WORK_END, 0, (uintptr_t)func);
    worker_check_context(worker);
}

// Takes an item off its list and runs it. The pool's lock is held, but not while the function runs.
static void worker_run_item(struct worker *worker, struct work_struct *work)
{
    struct worker_pool *pool = worker->pool;
    struct worker *colleague = pool_runner_of(pool, work);
    struct workqueue_struct *wq = work->wq;
    uint8_t color = work->color;

    list_del_init(&work->link);
    if (unlikely(colleague != NULL)) {
        list_add_tail(&work->link, &colleague->postponed);
        return;
    }
    worker->func = work->func;
    worker->sequence = work->sequence;
    worker->wq = wq;
    worker->item = work;
    current->sleep_hook = worker_sleep_hook; // an idle one's sleep changes nothing
    list_add(&worker->link, &pool->busy);
    pool->busy_count += worker->rescue == NULL;
    worker->intensive = (wq->flags & WQ_CPU_INTENSIVE) != 0;
    pool->running += !worker->intensive;
    if (!list_empty(&pool->items)) { // unbound, or it does not count: there may be more
        pool_kick(pool);
    }
    // From here on the item may be queued again, and the function may free it. An exchange, as a
    // full barrier: who finds `pending` set has written what the function is to see.
    __atomic_exchange_n(&work->pending, 0, __ATOMIC_SEQ_CST);
    spin_unlock_irq(&pool->lock);

    worker_call(worker, work);

    spin_lock_irq(&pool->lock);
    pool->running -= !worker->intensive;
    pool->executed++;
    pool->rescued += worker->rescue != NULL;
    list_del(&worker->link);
    pool->busy_count -= worker->rescue == NULL;
    worker->item = NULL;
    current->sleep_hook = NULL;
    while (unlikely(!list_empty(&worker->postponed))) { // back to the front, in their order
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

    list_add(&worker->link, &pool->idle);
    worker->idle_since = jiffies;
    if (unlikely(++pool->idle_count > POOL_KEEP_IDLE) && !timer_pending(&pool->reaper)) {
        mod_timer(&pool->reaper, jiffies + POOL_IDLE_TICKS);
    }
    current->wait_channel = "worker pool";
    set_current_state(THREAD_IDLE);
    spin_unlock_irq(&pool->lock);
    schedule();
    spin_lock_irq(&pool->lock);
    list_del(&worker->link);
    pool->idle_count--;
    if (likely(!worker->dismissed)) {
        return false;
    }
    worker->dismissed = false;
    return !pool_needs_worker(pool);
}

// Dismisses those who have been idle for long, but for the last POOL_KEEP_IDLE. Context: timer,
// interrupts off.
static void pool_reap(struct timer_list *timer)
{
    struct worker_pool *pool = container_of(timer, struct worker_pool, reaper);
    unsigned excess;

    spin_lock(&pool->lock);
    excess = pool->idle_count - min(pool->idle_count, (unsigned)POOL_KEEP_IDLE);
    for (struct list_head *at = pool->idle.prev; at != &pool->idle && excess != 0; excess--) {
        struct worker *worker = list_entry(at, struct worker, link);

        at = at->prev;
        if (time_after(worker->idle_since + POOL_IDLE_TICKS, jiffies)) {
            break; // the others went to sleep later still
        }
        worker->dismissed = true;
        sched_wake_atomic(worker->thread);
    }
    if (pool->idle_count > POOL_KEEP_IDLE) {
        mod_timer(&pool->reaper, jiffies + POOL_IDLE_TICKS);
    }
    spin_unlock(&pool->lock);
}

// Somebody must be idle while we work. Comes back when somebody is, or is not needed, or the pool
// is full. The lock is dropped meanwhile.
static void worker_make_successor(struct worker_pool *pool)
{
    while (list_empty(&pool->idle) && !pool->creating && pool->workers < POOL_MAX_WORKERS &&
           pool_needs_worker(pool)) {
        pool->creating = true;
        pool->workers++;
        spin_unlock_irq(&pool->lock);
        bool made = worker_make(pool);
        spin_lock_irq(&pool->lock);
        if (likely(made)) {
            pool->short_of_workers = false;
            break;
        }
        pool->creating = false;
        pool->workers--;
        pool->short_of_workers = true;
        pr_ratelimited(LOG_WARNING, "workqueue: no memory for one more worker");
        pool_call_rescuers(pool);
        set_current_state(THREAD_BLOCKED);
        spin_unlock_irq(&pool->lock);
        schedule_timeout(POOL_RETRY_TICKS);
        spin_lock_irq(&pool->lock);
    }
}

void worker_become(struct worker *worker)
{
    worker->thread = current;
    worker->began = WORKER_NOT_BEGUN;
    INIT_LIST_HEAD(&worker->postponed);
}

struct worker *worker_self(void)
{
    return in_task() ? worker_on_cpu() : NULL;
}

static void worker_thread(void *arg)
{
    struct worker *worker = arg;
    struct worker_pool *pool = worker->pool;

    worker_become(worker);
    if (pool->highpri) {
        sched_set_nice(current, -20);
    }
    spin_lock_irq(&pool->lock);
    pool->creating = false;
    for (;;) {
        while (pool_needs_worker(pool)) {
            worker_make_successor(pool);
            if (pool_needs_worker(pool)) {
                worker_run_item(worker, list_first_entry(&pool->items, struct work_struct, link));
            }
        }
        if (worker_idle(worker)) {
            break;
        }
    }
    pool->workers--;
    spin_unlock_irq(&pool->lock);
    kfree(worker);
}

// The oldest item of a queue that waits in this pool, or NULL.
static struct work_struct *pool_item_of(const struct worker_pool *pool,
                                        const struct workqueue_struct *wq)
{
    struct work_struct *work;

    list_for_each_entry (work, &pool->items, link) {
        if (work->wq == wq) {
            return work;
        }
    }
    return NULL;
}

// Goes on as long as the pool has nobody else: an item of the queue may bring the next.
void worker_rescue(struct worker *rescuer, struct worker_pool *pool)
{
    struct work_struct *work;

    if (pool->cpu >= 0) {
        struct cpumask only = {0};

        cpumask_set(&only, (unsigned)pool->cpu);
        sched_setaffinity(current, &only);
    }
    rescuer->pool = pool;
    spin_lock_irq(&pool->lock);
    while (pool_needs_worker(pool) && (list_empty(&pool->idle) || pool->short_of_workers) &&
           (work = pool_item_of(pool, rescuer->rescue)) != NULL) {
        worker_run_item(rescuer, work);
    }
    pool_kick(pool); // the rest is for others
    spin_unlock_irq(&pool->lock);
}

static struct thread *worker_start(struct worker *worker)
{
    struct worker_pool *pool = worker->pool;
    const char *suffix = pool->highpri ? "H" : "";

    if (pool->cpu < 0) {
        return kthread_run(worker_thread, worker, "kworker/u%u:%d%s", 2 * cpu_count, worker->id,
                           suffix);
    }
    struct thread *thread = kthread_run_on((unsigned)pool->cpu, worker_thread, worker,
                                           "kworker/%d:%d%s", pool->cpu, worker->id, suffix);
    if (thread != NULL) {
        kthread_bind(thread);
    }
    return thread;
}

// For tests, which have memory run out here and nowhere else.
static bool worker_may_be_made(void)
{
    uint32_t left = __atomic_load_n(&worker_make_failures, __ATOMIC_RELAXED);

    while (left != 0 && !__atomic_compare_exchange_n(&worker_make_failures, &left, left - 1, false,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return left == 0;
}

static bool worker_make(struct worker_pool *pool)
{
    struct worker *worker = worker_may_be_made() ? kzalloc(sizeof(*worker), GFP_KERNEL) : NULL;
    struct thread *thread;

    if (worker == NULL) {
        return false;
    }
    worker->pool = pool;
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
    timer_setup(&pool->reaper, pool_reap, TIMER_IRQSAFE);
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
