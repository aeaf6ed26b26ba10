// Workqueues: from alloc_workqueue() to destroy_workqueue(), and the four that are always there.
//
//   queue ──share──> pool of CPU 0 (nice 0, or -20 for WQ_HIGHPRI)      pools are shared: a queue
//         ──share──> pool of CPU 1                                      is a name, a bound on how
//            …                                                          many items run at once, and
//         ──share──> unbound pool (WQ_UNBOUND; a CPU without its own)   what flushing needs
//
// flush_workqueue() waits for all items of a queue: they are counted in one of two colors; it
// changes the color for those to come and waits until none of the old color is left.
// drain_workqueue() does that until the queue is empty, while only its own items may add some; a
// queue that is destroyed is drained, and stays so.
//
// Locks: work_mutex guards the list of queues and the making of pools, which are never given back.
// Context: thread; work_find: any. Previous: work.c. Next: pool.c, rescuer.c.
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <sched/wait.h>
#include <defer/work.h>

#include "pool.h"

enum { WORK_MAX_ACTIVE = 256, WORK_DRAIN_PATIENCE = 16 };

struct workqueue_struct *system_wq, *system_highpri_wq, *system_unbound_wq, *system_long_wq;

struct worker_pool *work_pools[MAX_CPUS][2];
struct worker_pool *work_unbound_pools[2];

static DEFINE_MUTEX(work_mutex);
static LIST_HEAD(work_queues); // L of work_mutex

// ---- made ---------------------------------------------------------------------------------------

// The pools that a queue with these flags needs, made when the first such queue is. With work_mutex
// held.
static bool work_make_pools(bool highpri)
{
    for_each_online_cpu (cpu) {
        if (work_pools[cpu][highpri] == NULL) {
            work_pools[cpu][highpri] = pool_make((int)cpu, highpri);
            if (work_pools[cpu][highpri] == NULL) {
                return false;
            }
        }
    }
    if (work_unbound_pools[highpri] == NULL) {
        work_unbound_pools[highpri] = pool_make(-1, highpri);
    }
    return work_unbound_pools[highpri] != NULL;
}

static struct workqueue_struct *wq_make(const char *name, unsigned flags, int max_active)
{
    struct workqueue_struct *wq = kzalloc(sizeof(*wq), GFP_KERNEL);

    if (wq == NULL) {
        return NULL;
    }
    wq->shares = kcalloc(cpu_count + 1, sizeof(wq->shares[0]), GFP_KERNEL);
    if (wq->shares == NULL) {
        kfree(wq);
        return NULL;
    }
    for (unsigned i = 0; i <= cpu_count; i++) {
        INIT_LIST_HEAD(&wq->shares[i].held_back);
    }
    wq->name = name;
    wq->flags = flags;
    wq->max_active = max_active > 0 ? (unsigned)max_active : WORK_MAX_ACTIVE;
    mutex_init(&wq->flush_mutex, "flush_workqueue");
    init_waitqueue_head(&wq->drained, "flush_workqueue");
    return wq;
}

static void wq_free(struct workqueue_struct *wq)
{
    kfree(wq->rescuer);
    kfree(wq->shares);
    kfree(wq);
}

struct workqueue_struct *alloc_workqueue(const char *name, unsigned flags, int max_active)
{
    might_sleep();
    struct workqueue_struct *wq = wq_make(name, flags, max_active);
    bool made;

    if (wq == NULL) {
        return NULL;
    }
    mutex_lock(&work_mutex);
    made = work_make_pools((flags & WQ_HIGHPRI) != 0) &&
           ((flags & WQ_MEM_RECLAIM) == 0 || wq_make_rescuer(wq));
    if (made) {
        list_add_tail(&wq->all_link, &work_queues);
    }
    mutex_unlock(&work_mutex);
    if (!made) {
        wq_free(wq);
        return NULL;
    }
    return wq;
}

void workqueue_init(void)
{
    might_sleep();
    system_wq = alloc_workqueue("events", 0, 0);
    system_highpri_wq = alloc_workqueue("events_highpri", WQ_HIGHPRI, 0);
    system_unbound_wq = alloc_workqueue("events_unbound", WQ_UNBOUND, 0);
    system_long_wq = alloc_workqueue("events_long", 0, 0);
    if (system_wq == NULL || system_highpri_wq == NULL || system_unbound_wq == NULL ||
        system_long_wq == NULL) {
        panic("no memory for the system workqueues: give the machine more than 16 MiB");
    }
}

// ---- flushed and drained ------------------------------------------------------------------------

void flush_workqueue(struct workqueue_struct *wq)
{
    uint32_t old;

    might_sleep();
    mutex_lock(&wq->flush_mutex);
    old = __atomic_fetch_xor(&wq->color, 1, __ATOMIC_SEQ_CST);
    wait_event(&wq->drained, __atomic_load_n(&wq->in_flight[old], __ATOMIC_SEQ_CST) == 0);
    mutex_unlock(&wq->flush_mutex);
}

static bool wq_is_empty(const struct workqueue_struct *wq)
{
    return __atomic_load_n(&wq->in_flight[0], __ATOMIC_SEQ_CST) == 0 &&
           __atomic_load_n(&wq->in_flight[1], __ATOMIC_SEQ_CST) == 0;
}

void drain_workqueue(struct workqueue_struct *wq)
{
    might_sleep();
    __atomic_fetch_add(&wq->draining, 1, __ATOMIC_SEQ_CST);
    for (unsigned flushes = 1; flush_workqueue(wq), !wq_is_empty(wq); flushes++) {
        if (flushes >= WORK_DRAIN_PATIENCE && (flushes & (flushes - 1)) == 0) {
            pr_warn("workqueue %s: not empty after %u flushes: an item of it starts another for "
                    "ever",
                    wq->name, flushes);
        }
    }
    __atomic_fetch_sub(&wq->draining, 1, __ATOMIC_SEQ_CST);
}

// ---- destroyed ----------------------------------------------------------------------------------

// Passes through every pool's lock: who counted the last item out has let go of the queue then.
static void wq_let_go(const struct workqueue_struct *wq)
{
    for (unsigned i = 0; i <= cpu_count; i++) {
        struct worker_pool *pool = wq_pool_at(i, (wq->flags & WQ_HIGHPRI) != 0);

        if (pool != NULL) {
            spin_lock_irq(&pool->lock);
            spin_unlock_irq(&pool->lock);
        }
    }
}

void destroy_workqueue(struct workqueue_struct *wq)
{
    mutex_lock(&work_mutex);
    list_del(&wq->all_link);
    mutex_unlock(&work_mutex);
    __atomic_fetch_add(&wq->draining, 1, __ATOMIC_SEQ_CST); // and it stays so
    drain_workqueue(wq);
    __atomic_store_n(&wq->dying, true, __ATOMIC_SEQ_CST);
    if (wq->rescuer != NULL) {
        kthread_stop(wq->rescuer->thread);
    }
    wq_let_go(wq);
    wq_free(wq);
}

// ---- asked: who still has an item in this memory? -----------------------------------------------

static struct work_struct *work_find_in_pool(struct worker_pool *pool, uintptr_t start,
                                             uintptr_t end)
{
    struct work_struct *work, *found = NULL;
    struct worker *worker;
    unsigned long flags;

    if (pool == NULL) {
        return NULL;
    }
    spin_lock_irqsave(&pool->lock, flags);
    list_for_each_entry (work, &pool->items, link) {
        if ((uintptr_t)work >= start && (uintptr_t)work < end) {
            found = work;
        }
    }
    list_for_each_entry (worker, &pool->busy, link) {
        if ((uintptr_t)worker->item >= start && (uintptr_t)worker->item < end) {
            found = worker->item;
        }
    }
    spin_unlock_irqrestore(&pool->lock, flags);
    return found;
}

struct work_struct *work_find(const void *start, size_t size)
{
    uintptr_t from = (uintptr_t)start, to = from + size;
    struct work_struct *found = NULL;

    for (unsigned highpri = 0; highpri < 2; highpri++) {
        for (unsigned i = 0; i <= cpu_count && found == NULL; i++) {
            found = work_find_in_pool(wq_pool_at(i, highpri), from, to);
        }
    }
    return found;
}

// ---- /proc/workqueues ---------------------------------------------------------------------------

static void work_show_pool(struct text *t, struct worker_pool *pool)
{
    unsigned waiting = 0;
    struct work_struct *work;

    if (pool == NULL) {
        return;
    }
    spin_lock_irq(&pool->lock);
    list_for_each_entry (work, &pool->items, link) {
        waiting++;
    }
    if (pool->cpu >= 0) {
        text_printf(t, "%4d", pool->cpu);
    } else {
        text_printf(t, "%4s", "any");
    }
    text_printf(t, " %4d %7u %4u %7u %7u %10llu %7llu %6llu\n", pool->highpri ? -20 : 0,
                pool->workers, pool->idle_count, pool->running, waiting,
                (unsigned long long)pool->executed, (unsigned long long)pool->rescued,
                (unsigned long long)pool->hogs);
    spin_unlock_irq(&pool->lock);
}

static void work_show(struct text *t, unsigned long index __unused)
{
    struct workqueue_struct *wq;

    text_puts(t, " CPU NICE WORKERS IDLE RUNNING WAITING   EXECUTED RESCUED   HOGS\n");
    for (unsigned highpri = 0; highpri < 2; highpri++) {
        for (unsigned i = 0; i <= cpu_count; i++) {
            work_show_pool(t, wq_pool_at(i, highpri));
        }
    }
    text_puts(t, "\nQUEUE            MAX_ACTIVE IN_FLIGHT FLAGS\n");
    mutex_lock(&work_mutex);
    list_for_each_entry (wq, &work_queues, all_link) {
        text_printf(t, "%-16s %10u %9u %s%s%s%s%s\n", wq->name, wq->max_active,
                    READ_ONCE(wq->in_flight[0]) + READ_ONCE(wq->in_flight[1]),
                    wq->flags == 0 ? "-" : "", (wq->flags & WQ_HIGHPRI) ? "highpri " : "",
                    (wq->flags & WQ_UNBOUND) ? "unbound " : "",
                    (wq->flags & WQ_MEM_RECLAIM) ? "mem_reclaim " : "",
                    (wq->flags & WQ_CPU_INTENSIVE) ? "cpu_intensive" : "");
    }
    mutex_unlock(&work_mutex);
    work_show_intensive(t);
}

PROC_FILE("workqueues", work_show);
