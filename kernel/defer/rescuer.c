// Rescuers: what lets a queue go on when no worker can be made for want of memory.
//
//   pool.c: no worker idle, none can be made ──mayday──> the queue's rescuer, a thread made in
//   advance, goes to that pool's CPU and runs the items of its queue that wait there
//
// Memory may be waiting for these items (WQ_MEM_RECLAIM: writing pages out, mending a disk), so
// they may not wait for memory. A rescuer runs one item after the other: slowly, but to the end.
//
// Context: work_call_rescuer with the pool's lock held; the rest: thread. Previous: pool.c.
#include <mm/slab.h>
#include <sched/thread.h>
#include <defer/work.h>

#include "pool.h"

void work_call_rescuer(struct workqueue_struct *wq, struct worker_pool *pool)
{
    if (wq->rescuer != NULL) {
        __atomic_store_n(&wq_share_of(wq, pool)->mayday, true, __ATOMIC_SEQ_CST);
        wake_up_process(wq->rescuer->thread);
    }
}

static bool wq_has_mayday(const struct workqueue_struct *wq)
{
    bool mayday = false;

    for (unsigned i = 0; i <= cpu_count; i++) {
        mayday |= __atomic_load_n(&wq->shares[i].mayday, __ATOMIC_SEQ_CST);
    }
    return mayday;
}

static void wq_rescue(struct workqueue_struct *wq)
{
    for (unsigned i = 0; i <= cpu_count; i++) {
        struct worker_pool *pool = wq_pool_at(i, (wq->flags & WQ_HIGHPRI) != 0);

        if (pool != NULL &&
            __atomic_exchange_n(&wq_share_of(wq, pool)->mayday, false, __ATOMIC_SEQ_CST)) {
            worker_rescue(wq->rescuer, pool);
        }
    }
}

static void wq_rescuer_thread(void *arg)
{
    struct worker *rescuer = arg;
    struct workqueue_struct *wq = rescuer->rescue;

    worker_become(rescuer);
    sched_set_nice(current, -20);
    while (!kthread_should_stop()) {
        set_current_state(THREAD_IDLE); // first, then the look
        current->wait_channel = "rescuer";
        if (!wq_has_mayday(wq) && !kthread_should_stop()) {
            schedule();
        }
        set_current_state(THREAD_RUNNING);
        wq_rescue(wq);
    }
}

bool wq_make_rescuer(struct workqueue_struct *wq)
{
    struct worker *rescuer = kzalloc(sizeof(*rescuer), GFP_KERNEL);

    if (rescuer == NULL) {
        return false;
    }
    rescuer->rescue = wq;
    rescuer->thread = kthread_run(wq_rescuer_thread, rescuer, "%s", wq->name);
    if (rescuer->thread == NULL) {
        kfree(rescuer);
        return false;
    }
    wq->rescuer = rescuer; // it is not called before the queue has items
    return true;
}
