// Picks who runs next: see runqueue.h for the picture.
//
// Fairness: each OTHER thread has a virtual run time that advances the slower the more weight the
// thread has. The list is sorted by it; a thread that comes back from running has nearly always
// more than the others, so the search for its place starts at the end. Virtual times are compared
// by their difference, so they may wrap.
#include "runqueue.h"

// 1024 * 1.25^-nice, rounded; nice -20 .. 19.
static const uint32_t nice_weights[40] = {
    88818, 71054, 56843, 45475, 36380, 29104, 23283, 18626, 14901, 11921, //
    9537,  7629,  6104,  4883,  3906,  3125,  2500,  2000,  1600,  1280,  //
    1024,  819,   655,   524,   419,   336,   268,   215,   172,   137,   //
    110,   88,    70,    56,    45,    36,    29,    23,    18,    15,
};
enum { WEIGHT_NICE_0 = 1024, WEIGHT_IDLE_POLICY = 3 };

uint32_t thread_weight(const struct thread *thread)
{
    return thread->policy == SCHED_IDLE ? WEIGHT_IDLE_POLICY : nice_weights[thread->nice + 20];
}

uint32_t thread_slice(const struct thread *thread)
{
    return thread->policy == SCHED_RR ? RR_SLICE_TICKS : FAIR_SLICE_TICKS;
}

static bool vruntime_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

static void run_queue_advance(struct run_queue *queue, uint64_t vruntime)
{
    if (vruntime_before(queue->min_vruntime, vruntime)) {
        queue->min_vruntime = vruntime;
    }
}

void run_queue_init(struct run_queue *queue, unsigned cpu)
{
    spin_lock_init(&queue->lock, "run queue");
    queue->cpu = cpu;
    for (unsigned i = 0; i < RT_PRIORITIES; i++) {
        INIT_LIST_HEAD(&queue->rt[i]);
    }
    INIT_LIST_HEAD(&queue->fair);
}

static void run_queue_add_fair(struct run_queue *queue, struct thread *thread)
{
    struct list_head *after = queue->fair.prev;

    while (
        after != &queue->fair &&
        vruntime_before(thread->vruntime, list_entry(after, struct thread, queue_link)->vruntime)) {
        after = after->prev;
    }
    list_add(&thread->queue_link, after);
}

void run_queue_add(struct run_queue *queue, struct thread *thread, bool at_head)
{
    unsigned priority = thread->rt_priority;

    queue->waiting++;
    if (priority == 0) {
        run_queue_add_fair(queue, thread);
        return;
    }
    unsigned bit = RT_PRIORITIES - 1 - priority;
    queue->rt_bits[bit / 64] |= BIT64(bit % 64);
    if (at_head) {
        list_add(&thread->queue_link, &queue->rt[priority]);
    } else {
        list_add_tail(&thread->queue_link, &queue->rt[priority]);
    }
}

void run_queue_remove(struct run_queue *queue, struct thread *thread)
{
    unsigned priority = thread->rt_priority;

    queue->waiting--;
    list_del_init(&thread->queue_link);
    if (priority != 0 && list_empty(&queue->rt[priority])) {
        unsigned bit = RT_PRIORITIES - 1 - priority;
        queue->rt_bits[bit / 64] &= ~BIT64(bit % 64);
    }
}

// The best realtime priority that waits, 0 when none does.
static unsigned run_queue_best_rt(const struct run_queue *queue)
{
    for (unsigned word = 0; word < ARRAY_SIZE(queue->rt_bits); word++) {
        if (queue->rt_bits[word] != 0) {
            return RT_PRIORITIES - 1 -
                   (word * 64 + (unsigned)__builtin_ctzll(queue->rt_bits[word]));
        }
    }
    return 0;
}

struct thread *run_queue_take(struct run_queue *queue)
{
    struct thread *thread;

    if (queue->waiting == 0) {
        return NULL;
    }
    if (unlikely((queue->rt_bits[0] | queue->rt_bits[1]) != 0)) {
        thread = list_first_entry(&queue->rt[run_queue_best_rt(queue)], struct thread, queue_link);
        run_queue_remove(queue, thread);
        return thread;
    }
    thread = list_first_entry(&queue->fair, struct thread, queue_link);
    queue->waiting--;
    list_del_init(&thread->queue_link);
    run_queue_advance(queue, thread->vruntime);
    return thread;
}

static struct thread *run_queue_find_for(struct list_head *list, unsigned cpu)
{
    struct thread *thread;

    list_for_each_entry (thread, list, queue_link) {
        if (cpumask_test(&thread->allowed, cpu)) {
            return thread;
        }
    }
    return NULL;
}

struct thread *run_queue_take_for(struct run_queue *queue, unsigned cpu)
{
    struct thread *thread = NULL;

    if (run_queue_best_rt(queue) != 0) {
        for (unsigned priority = RT_PRIORITIES - 1; priority > 0 && thread == NULL; priority--) {
            thread = run_queue_find_for(&queue->rt[priority], cpu);
        }
    }
    if (thread == NULL) {
        thread = run_queue_find_for(&queue->fair, cpu);
    }
    if (thread != NULL) {
        run_queue_remove(queue, thread);
    }
    return thread;
}

void run_queue_charge(struct run_queue *queue, struct thread *thread, uint64_t delta_ns)
{
    thread->runtime_ns += delta_ns;
    if (thread_is_rt(thread) || thread == queue->idle) {
        return;
    }
    uint32_t weight = thread_weight(thread);
    thread->vruntime += weight == WEIGHT_NICE_0 ? delta_ns : delta_ns * WEIGHT_NICE_0 / weight;
    // While somebody waits, time moves on with whom run_queue_take() chooses.
    if (list_empty(&queue->fair)) {
        run_queue_advance(queue, thread->vruntime);
    }
}

void run_queue_place_woken(struct run_queue *queue, struct thread *thread)
{
    uint64_t earliest = queue->min_vruntime - FAIR_SLEEPER_NS;

    if (vruntime_before(thread->vruntime, earliest)) {
        thread->vruntime = earliest;
    }
}

void run_queue_place_moved(struct run_queue *queue, struct thread *thread, uint64_t origin)
{
    thread->vruntime += queue->min_vruntime - origin;
}

void run_queue_yield(struct run_queue *queue, struct thread *thread)
{
    if (!thread_is_rt(thread) && !list_empty(&queue->fair)) {
        uint64_t first = list_first_entry(&queue->fair, struct thread, queue_link)->vruntime;
        if (vruntime_before(thread->vruntime, first)) {
            thread->vruntime = first;
        }
    }
}

bool thread_preempts(const struct thread *woken, const struct thread *running)
{
    if (running->tid == 0) {
        return true;
    }
    if (woken->rt_priority != running->rt_priority) {
        return woken->rt_priority > running->rt_priority;
    }
    if (thread_is_rt(woken) || woken->policy == SCHED_IDLE) {
        return false;
    }
    return running->policy == SCHED_IDLE ||
           (int64_t)(running->vruntime - woken->vruntime) > FAIR_PREEMPT_NS;
}
