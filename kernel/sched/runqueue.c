// Picks who runs next: see runqueue.h for the picture and for what every switch needs.
//
// Fairness: each OTHER thread has a virtual run time that advances the slower the more weight the
// thread has. The list is sorted by it.
//
// Realtime threads may starve everybody else, and a FIFO thread in a loop would take the console
// away from whom could stop it. So in each second they get 950 ms while others wait; for the rest
// of it the others go first.
#include "runqueue.h"

// 1024 * 1.25^-nice, rounded; nice -20 .. 19.
static const uint32_t nice_weights[40] = {
    88818, 71054, 56843, 45475, 36380, 29104, 23283, 18626, 14901, 11921, //
    9537,  7629,  6104,  4883,  3906,  3125,  2500,  2000,  1600,  1280,  //
    1024,  819,   655,   524,   419,   336,   268,   215,   172,   137,   //
    110,   88,    70,    56,    45,    36,    29,    23,    18,    15,
};
enum { WEIGHT_IDLE_POLICY = 3 };

uint64_t fair_sleeper_cycles, fair_preempt_cycles;
struct rt_limit rt_limit = {.runtime_us = 950 * 1000, .period_us = 1000 * 1000};

// ---- what a thread is --------------------------------------------------------------------------

// A weight of 0: its run time has no virtual counterpart.
static void thread_update(struct thread *thread)
{
    thread->rt_effective = max(thread->rt_priority, thread->rt_boost);
    if (thread->rt_effective != 0) {
        thread->weight = 0;
    } else if (thread->policy == SCHED_IDLE) {
        thread->weight = WEIGHT_IDLE_POLICY;
    } else {
        thread->weight = nice_weights[thread->nice + 20];
    }
}

void thread_set_class(struct thread *thread, enum sched_policy policy, unsigned priority, int nice)
{
    thread->policy = policy;
    thread->rt_priority = (uint8_t)priority;
    thread->nice = (int8_t)nice;
    thread_update(thread);
    thread->slice_ticks = thread_slice(thread);
}

void thread_set_boost(struct thread *thread, unsigned boost)
{
    thread->rt_boost = (uint8_t)boost;
    thread_update(thread);
}

// ---- the lists ---------------------------------------------------------------------------------

void run_queue_init_times(uint64_t tsc_hz)
{
    fair_sleeper_cycles = tsc_hz / 1000000 * FAIR_SLEEPER_US;
    fair_preempt_cycles = tsc_hz / 1000000 * FAIR_PREEMPT_US;
    rt_limit_set(rt_limit.runtime_us, rt_limit.period_us, tsc_hz);
}

void run_queue_init(struct run_queue *queue, unsigned cpu)
{
    spin_lock_init(&queue->lock, "run queue");
    queue->cpu = (uint16_t)cpu;
    for (unsigned i = 0; i < RT_PRIORITIES; i++) {
        INIT_LIST_HEAD(&queue->rt[i]);
    }
    INIT_LIST_HEAD(&queue->fair);
}

static unsigned run_queue_rt_bit(unsigned priority)
{
    return RT_PRIORITIES - 1 - priority;
}

static void run_queue_add_rt(struct run_queue *queue, struct thread *thread, bool at_head)
{
    unsigned priority = thread->rt_effective, bit = run_queue_rt_bit(priority);

    queue->waiting++;
    queue->rt_bits[bit / 64] |= BIT64(bit % 64);
    if (at_head) {
        list_add(&thread->queue_link, &queue->rt[priority]);
    } else {
        list_add_tail(&thread->queue_link, &queue->rt[priority]);
    }
}

void run_queue_add(struct run_queue *queue, struct thread *thread, bool at_head)
{
    if (thread_is_rt(thread)) {
        run_queue_add_rt(queue, thread, at_head);
    } else {
        run_queue_add_fair(queue, thread);
    }
}

void run_queue_put_rt(struct run_queue *queue, struct thread *thread, bool preempted)
{
    bool at_head = preempted && thread->slice_ticks != 0;

    if (!at_head) {
        thread->slice_ticks = thread_slice(thread);
    }
    run_queue_add_rt(queue, thread, at_head);
}

void run_queue_remove(struct run_queue *queue, struct thread *thread)
{
    unsigned priority = thread->rt_effective, bit = run_queue_rt_bit(priority);

    queue->waiting--;
    list_del_init(&thread->queue_link);
    if (priority != 0 && list_empty(&queue->rt[priority])) {
        queue->rt_bits[bit / 64] &= ~BIT64(bit % 64);
    }
}

// The best realtime priority that waits, 0 when none does.
static unsigned run_queue_best_rt(const struct run_queue *queue)
{
    for (unsigned word = 0; word < ARRAY_SIZE(queue->rt_bits); word++) {
        if (queue->rt_bits[word] != 0) {
            return run_queue_rt_bit(word * 64 + (unsigned)__builtin_ctzll(queue->rt_bits[word]));
        }
    }
    return 0;
}

struct thread *run_queue_take_rt(struct run_queue *queue)
{
    struct thread *thread;

    if (unlikely(queue->rt_throttled) && !list_empty(&queue->fair)) {
        return run_queue_take_fair(queue);
    }
    run_queue_catch_up(queue);
    thread = list_first_entry(&queue->rt[run_queue_best_rt(queue)], struct thread, queue_link);
    run_queue_remove(queue, thread);
    return thread;
}

static struct thread *run_queue_list_find_for(const struct list_head *list, unsigned cpu)
{
    struct thread *thread;

    list_for_each_entry (thread, list, queue_link) {
        if (cpumask_test(&thread->allowed, cpu)) {
            return thread;
        }
    }
    return NULL;
}

struct thread *run_queue_find_for(const struct run_queue *queue, unsigned cpu)
{
    struct thread *thread = NULL;

    for (unsigned priority = run_queue_best_rt(queue); priority > 0 && thread == NULL; priority--) {
        thread = run_queue_list_find_for(&queue->rt[priority], cpu);
    }
    return thread != NULL ? thread : run_queue_list_find_for(&queue->fair, cpu);
}

struct thread *run_queue_take_for(struct run_queue *queue, unsigned cpu)
{
    struct thread *thread = run_queue_find_for(queue, cpu);

    if (thread != NULL) {
        run_queue_remove(queue, thread);
    }
    return thread;
}

// ---- time --------------------------------------------------------------------------------------

void run_queue_book_weighted(struct run_queue *queue, struct thread *thread, uint64_t delta)
{
    if (thread_is_rt(thread)) {
        queue->rt_used += delta;
    } else if (thread->weight != 0) {
        thread->vruntime += delta * WEIGHT_NICE_0 / thread->weight;
    }
}

void run_queue_catch_up(struct run_queue *queue)
{
    if (!list_empty(&queue->fair)) {
        run_queue_advance(queue, run_queue_first_fair(queue)->vruntime);
    } else if (queue->running->weight != 0) {
        run_queue_advance(queue, queue->running->vruntime);
    }
}

void run_queue_place_moved(struct run_queue *queue, struct thread *thread, uint64_t origin)
{
    thread->vruntime += queue->min_vruntime - origin;
}

bool run_queue_preempts_by_class(const struct run_queue *queue, const struct thread *woken)
{
    const struct thread *running = queue->running;

    if (running == queue->idle) {
        return true;
    }
    if (queue->rt_throttled && thread_is_rt(woken) != thread_is_rt(running)) {
        return thread_is_rt(running); // the fair ones go first
    }
    if (woken->rt_effective != running->rt_effective) {
        return woken->rt_effective > running->rt_effective;
    }
    if (thread_is_rt(woken) || woken->policy == SCHED_IDLE) {
        return false;
    }
    return running->policy == SCHED_IDLE ||
           (int64_t)(running->vruntime - woken->vruntime) > (int64_t)fair_preempt_cycles;
}

void rt_limit_set(int64_t runtime_us, int64_t period_us, uint64_t tsc_hz)
{
    uint64_t per_us = tsc_hz / 1000000;

    WRITE_ONCE(rt_limit.period_us, period_us);
    WRITE_ONCE(rt_limit.runtime_us, runtime_us);
    WRITE_ONCE(rt_limit.period_cycles, (uint64_t)period_us * per_us);
    WRITE_ONCE(rt_limit.runtime_cycles,
               runtime_us < 0 ? UINT64_MAX : (uint64_t)runtime_us * per_us);
}

// True when the throttle has just gone on or off and somebody else should run for that.
static bool run_queue_tick_rt(struct run_queue *queue, uint64_t now)
{
    bool was = queue->rt_throttled;

    if (now - queue->rt_period_began >= READ_ONCE(rt_limit.period_cycles)) {
        queue->rt_period_began = now;
        queue->rt_used = 0;
    }
    queue->rt_throttled = queue->rt_used > READ_ONCE(rt_limit.runtime_cycles);
    queue->rt_throttled_count += queue->rt_throttled && !was;
    if (thread_is_rt(queue->running)) {
        return queue->rt_throttled && !list_empty(&queue->fair);
    }
    return was && !queue->rt_throttled && run_queue_best_rt(queue) != 0;
}

bool run_queue_tick(struct run_queue *queue, uint64_t now)
{
    struct thread *thread = queue->running;
    bool look_again = run_queue_tick_rt(queue, now);

    if (thread == queue->idle) {
        return queue->waiting != 0;
    }
    if (thread_is_rt(thread) && thread->policy != SCHED_RR) {
        return look_again; // FIFO, and who is boosted: until it sleeps
    }
    if (thread->slice_ticks != 0) {
        thread->slice_ticks--;
    }
    return look_again || (thread->slice_ticks == 0 && queue->waiting != 0);
}
