// Work: items on their way to a worker, and those who cancel one or wait for it.
//
//   pending 0 ──queue──> 1 on a pool's list ──worker takes it──> 0, function runs
//                        1 on a timer (delayed work) ──tick──> on a pool's list
//                        1 held back by max_active ──an earlier item ends──> on a pool's list
//   any ──cancel──> 2, off every list ──function has ended──> 0
//
// `pending` decides who owns the item: whoever turns 0 into 1 queues it, whoever turns it into 2
// cancels it. While it is 2 nobody, not even the item itself, can queue it: that is why cancelling
// an item that starts itself again comes to an end. Between turning 0 into 1 (or taking it off a
// timer that fires) and putting it on a list interrupts are off, so others that see 1 and find it
// on no list need only look again.
//
// The same item never runs twice at once: it goes to the pool where it is running, if it is, and
// there the worker that runs it gets it next (pool.c).
//
// flush_work() waits for one item: items are numbered by their pool, and it waits until none with
// this or a lower number is queued or running. For all of a queue: workqueue.c.
//
// Locks: pool->lock guards the items given to that pool. Context: as <defer/work.h> says.
// Next: pool.c (the workers), workqueue.c (the queues).
#include <lib/errno.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/lockdep.h>
#include <core/panic.h>
#include <sched/wait.h>
#include <defer/timer.h>
#include <defer/work.h>

#include "pool.h"

enum { WORK_IDLE = 0, WORK_PENDING = 1, WORK_CANCELLING = 2 };

void work_init(struct work_struct *work, work_func_t func)
{
    *work = (struct work_struct){.func = func};
    INIT_LIST_HEAD(&work->link);
}

static void work_timer(struct timer_list *timer);

void delayed_work_init(struct delayed_work *work, work_func_t func)
{
    work_init(&work->work, func);
    timer_setup(&work->timer, work_timer, TIMER_IRQSAFE);
    work->wq = NULL;
}

// ---- queueing -----------------------------------------------------------------------------------

static struct worker_pool *wq_pool_for(const struct workqueue_struct *wq, unsigned cpu)
{
    bool highpri = (wq->flags & WQ_HIGHPRI) != 0;
    struct worker_pool *pool = NULL;

    if ((wq->flags & WQ_UNBOUND) == 0 && cpu < MAX_CPUS) {
        pool = work_pools[cpu][highpri];
    }
    return pool != NULL ? pool : work_unbound_pools[highpri]; // a CPU that came up late has none
}

// Counts an item in the color of now. The color may change between the look and the count; then it
// is counted again.
static uint8_t wq_count_in(struct workqueue_struct *wq)
{
    for (;;) {
        uint32_t color = __atomic_load_n(&wq->color, __ATOMIC_SEQ_CST);

        __atomic_fetch_add(&wq->in_flight[color], 1, __ATOMIC_SEQ_CST);
        if (likely(__atomic_load_n(&wq->color, __ATOMIC_SEQ_CST) == color)) {
            return (uint8_t)color;
        }
        if (__atomic_sub_fetch(&wq->in_flight[color], 1, __ATOMIC_SEQ_CST) == 0) {
            wake_up_all(&wq->drained);
        }
    }
}

// With the pool's lock held: one item of this color is no more. The next of those held back takes
// its place.
static void wq_count_out(struct workqueue_struct *wq, struct worker_pool *pool, uint8_t color,
                         bool was_active)
{
    struct wq_share *share = wq_share_of(wq, pool);

    if (was_active) {
        share->active--;
        if (!list_empty(&share->held_back)) {
            struct work_struct *next =
                list_first_entry(&share->held_back, struct work_struct, link);

            list_del(&next->link);
            next->active = true;
            share->active++;
            list_add_tail(&next->link, &pool->items);
            pool_kick(pool);
        }
    }
    if (__atomic_sub_fetch(&wq->in_flight[color], 1, __ATOMIC_SEQ_CST) == 0) {
        wake_up_all(&wq->drained);
    }
}

void work_finished(struct workqueue_struct *wq, struct worker_pool *pool, uint8_t color)
{
    wq_count_out(wq, pool, color, true);
}

// Is the item on a list of this pool, whose lock the caller holds? Somebody with another pool's
// lock may be putting it on a list there right now: he names the pool first and links then, so we
// look in the other order, and never take his list for ours.
static bool work_is_queued_in(const struct work_struct *work, const struct worker_pool *pool)
{
    if (list_empty(&work->link)) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return READ_ONCE(work->pool) == pool;
}

// The pool that the item shall go to, locked: the wanted one, unless the item runs in another right
// now.
static struct worker_pool *work_lock_target(struct work_struct *work, struct worker_pool *wanted)
{
    struct worker_pool *last = work->pool;

    if (last != NULL && last != wanted) {
        spin_lock(&last->lock);
        if (pool_runner_of(last, work) != NULL) {
            return last;
        }
        spin_unlock(&last->lock);
    }
    spin_lock(&wanted->lock);
    return wanted;
}

// Gives an item, which the caller has made pending, to a pool. Interrupts off.
static void work_insert(struct workqueue_struct *wq, struct work_struct *work, unsigned cpu)
{
    struct worker_pool *pool = work_lock_target(work, wq_pool_for(wq, cpu));
    struct wq_share *share = wq_share_of(wq, pool);

    work->wq = wq;
    WRITE_ONCE(work->pool, pool);
    __atomic_thread_fence(__ATOMIC_RELEASE); // work_is_queued_in()
    work->sequence = ++pool->sequence;
    work->color = wq_count_in(wq);
    work->active = share->active < wq->max_active;
    if (work->active) {
        share->active++;
        list_add_tail(&work->link, &pool->items);
        pool_kick(pool);
    } else {
        list_add_tail(&work->link, &share->held_back);
    }
    spin_unlock(&pool->lock);
}

static bool work_make_pending(struct work_struct *work)
{
    uint32_t idle = WORK_IDLE;

    return __atomic_compare_exchange_n(&work->pending, &idle, WORK_PENDING, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

// A queue that is being drained or destroyed: does an item of its own ask?
static __noinline bool wq_takes_from_own(const struct workqueue_struct *wq)
{
    const struct worker *self = worker_self();

    return !WARN_ON(__atomic_load_n(&wq->dying, __ATOMIC_RELAXED) || self == NULL ||
                    self->wq != wq || self->item == NULL);
}

static bool wq_takes_items(const struct workqueue_struct *wq)
{
    return likely(__atomic_load_n(&wq->draining, __ATOMIC_RELAXED) == 0) || wq_takes_from_own(wq);
}

bool queue_work_on(unsigned cpu, struct workqueue_struct *wq, struct work_struct *work)
{
    unsigned long flags = local_irq_save();
    bool queued = wq_takes_items(wq) && work_make_pending(work);

    if (queued) {
        work_insert(wq, work, cpu);
    }
    local_irq_restore(flags);
    if (unlikely(cpu_field(want_resched))) {
        preempt_enable_slow();
    }
    return queued;
}

bool queue_work(struct workqueue_struct *wq, struct work_struct *work)
{
    return queue_work_on(cpu_id(), wq, work);
}

bool schedule_work(struct work_struct *work)
{
    return queue_work(system_wq, work);
}

bool schedule_work_on(unsigned cpu, struct work_struct *work)
{
    return queue_work_on(cpu, system_wq, work);
}

// ---- delayed work -------------------------------------------------------------------------------

static void work_timer(struct timer_list *timer)
{
    struct delayed_work *delayed = container_of(timer, struct delayed_work, timer);

    work_insert(delayed->wq, &delayed->work, cpu_id());
}

// With the item pending and on no list. Interrupts off.
static void delayed_work_start(struct workqueue_struct *wq, struct delayed_work *delayed,
                               uint32_t delay)
{
    delayed->wq = wq;
    if (delay == 0) {
        work_insert(wq, &delayed->work, cpu_id());
    } else {
        mod_timer(&delayed->timer, jiffies + delay);
    }
}

bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *work,
                        uint32_t delay_jiffies)
{
    unsigned long flags = local_irq_save();
    bool queued = wq_takes_items(wq) && work_make_pending(&work->work);

    if (queued) {
        delayed_work_start(wq, work, delay_jiffies);
    }
    local_irq_restore(flags);
    return queued;
}

bool schedule_delayed_work(struct delayed_work *work, uint32_t delay_jiffies)
{
    return queue_delayed_work(system_wq, work, delay_jiffies);
}

// ---- cancelling ---------------------------------------------------------------------------------

// Takes the item off whatever list it is on. With its pool locked.
static void work_remove(struct work_struct *work, struct worker_pool *pool)
{
    list_del_init(&work->link);
    wq_count_out(work->wq, pool, work->color, work->active);
    if (pool->flushers != 0) { // who waits for this item waits for nothing now
        wake_up_all(&pool->finished);
    }
}

// One attempt to become the owner of an item: 1 it was pending, 0 it was idle, -EAGAIN somebody is
// about to queue it, -EBUSY somebody cancels it. On success its state is WORK_CANCELLING.
// Interrupts off.
static int work_try_grab(struct work_struct *work, struct timer_list *timer)
{
    uint32_t idle = WORK_IDLE;
    struct worker_pool *pool;

    if (timer != NULL && del_timer(timer)) {
        __atomic_store_n(&work->pending, WORK_CANCELLING, __ATOMIC_SEQ_CST);
        return 1;
    }
    if (__atomic_compare_exchange_n(&work->pending, &idle, WORK_CANCELLING, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST)) {
        return 0;
    }
    pool = READ_ONCE(work->pool);
    if (pool != NULL) {
        spin_lock(&pool->lock);
        if (work_is_queued_in(work, pool)) {
            work_remove(work, pool);
            __atomic_store_n(&work->pending, WORK_CANCELLING, __ATOMIC_SEQ_CST);
            spin_unlock(&pool->lock);
            return 1;
        }
        spin_unlock(&pool->lock);
    }
    return __atomic_load_n(&work->pending, __ATOMIC_SEQ_CST) == WORK_CANCELLING ? -EBUSY : -EAGAIN;
}

// The same, as often as it takes; -EBUSY is for the caller to wait out.
static int work_grab(struct work_struct *work, struct timer_list *timer)
{
    int result;

    do {
        unsigned long flags = local_irq_save();

        result = work_try_grab(work, timer);
        local_irq_restore(flags);
        cpu_relax();
    } while (result == -EAGAIN);
    return result;
}

bool mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *work,
                      uint32_t delay_jiffies)
{
    int was_pending = work_grab(&work->work, &work->timer);

    if (was_pending >= 0) {
        unsigned long flags = local_irq_save();

        __atomic_store_n(&work->work.pending, WORK_PENDING, __ATOMIC_SEQ_CST);
        delayed_work_start(wq, work, delay_jiffies);
        local_irq_restore(flags);
    }
    return was_pending > 0;
}

// ---- waiting ------------------------------------------------------------------------------------

// Is the item queued or running in this pool under a number up to `sequence`?
static bool work_is_busy(struct worker_pool *pool, struct work_struct *work, uint64_t sequence)
{
    unsigned long flags;
    struct worker *runner;
    bool busy;

    spin_lock_irqsave(&pool->lock, flags);
    runner = pool_runner_of(pool, work);
    busy = (runner != NULL && runner->sequence <= sequence) ||
           (work_is_queued_in(work, pool) && work->sequence <= sequence);
    spin_unlock_irqrestore(&pool->lock, flags);
    return busy;
}

// Is it the caller himself who runs the item? Then waiting for it would never end.
static bool work_is_own(struct worker_pool *pool, const struct work_struct *work)
{
    unsigned long flags;
    struct worker *runner;

    spin_lock_irqsave(&pool->lock, flags);
    runner = pool_runner_of(pool, work);
    bool own = runner != NULL && runner->thread == current;
    spin_unlock_irqrestore(&pool->lock, flags);
    return own;
}

// Waits until the item is done in the pool where it was queued last. True when there was something
// to wait for.
static bool work_wait(struct work_struct *work)
{
    struct worker_pool *pool = READ_ONCE(work->pool);
    uint64_t sequence;

    if (pool == NULL) {
        return false;
    }
    sequence = READ_ONCE(pool->sequence);
    if (!work_is_busy(pool, work, sequence) || WARN_ON(work_is_own(pool, work))) {
        return false;
    }
    __atomic_fetch_add(&pool->flushers, 1, __ATOMIC_SEQ_CST);
    wait_event(&pool->finished, !work_is_busy(pool, work, sequence));
    __atomic_fetch_sub(&pool->flushers, 1, __ATOMIC_SEQ_CST);
    return true;
}

bool flush_work(struct work_struct *work)
{
    might_sleep();
    lockdep_waits_for(work->func);
    return work_wait(work);
}

bool flush_delayed_work(struct delayed_work *work)
{
    unsigned long flags;
    bool delayed;

    might_sleep();
    flags = local_irq_save();
    delayed = del_timer(&work->timer);
    if (delayed) { // its delay is over now
        work_insert(work->wq, &work->work, cpu_id());
    }
    local_irq_restore(flags);
    return work_wait(&work->work) || delayed; // it may be done before we look
}

static bool work_cancel(struct work_struct *work, struct timer_list *timer)
{
    int was_pending;

    might_sleep();
    lockdep_waits_for(work->func);
    while ((was_pending = work_grab(work, timer)) == -EBUSY) {
        set_current_state(THREAD_BLOCKED);
        schedule_timeout(1);
    }
    work_wait(work);
    __atomic_store_n(&work->pending, WORK_IDLE, __ATOMIC_SEQ_CST);
    return was_pending > 0;
}

bool cancel_work_sync(struct work_struct *work)
{
    return work_cancel(work, NULL);
}

bool cancel_delayed_work_sync(struct delayed_work *work)
{
    return work_cancel(&work->work, &work->timer);
}
