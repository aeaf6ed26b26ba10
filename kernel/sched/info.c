// What is told of threads: copies for ps and top, and /proc/PID.
//
// A thread that runs on another CPU changes while it is looked at: numbers are read one by one and
// need not belong to the same moment, as in Linux.
//
// Context: as <sched/info.h> says.
#include <lib/string.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <sched/info.h>
#include <sched/thread.h>

#include "internal.h"

static char thread_state_letter(const struct thread *thread)
{
    static const char letters[] = {'R', 'S', 'D', 'I', 'Z', 'D'};
    enum thread_state state = READ_ONCE(thread->state);

    if (state != THREAD_DEAD && READ_ONCE(thread->on_queue)) {
        return 'R'; // it may be about to sleep, but is still runnable
    }
    return letters[state];
}

void thread_info(const struct thread *thread, struct thread_info *info)
{
    uint64_t start = clock_start_tsc();

    *info = (struct thread_info){
        .tid = thread->tid,
        .cpu = READ_ONCE(thread->cpu),
        .policy = READ_ONCE(thread->policy),
        .rt_priority = READ_ONCE(thread->rt_priority),
        .rt_effective = READ_ONCE(thread->rt_effective),
        .nice = READ_ONCE(thread->nice),
        .state = thread_state_letter(thread),
        .program = thread->process != NULL,
        .runtime_ns = clock_tsc_to_ns(READ_ONCE(thread->runtime)),
        .started_ns = thread->started > start ? clock_tsc_to_ns(thread->started - start) : 0,
        .switches = READ_ONCE(thread->switches),
        .preemptions = READ_ONCE(thread->preemptions),
        .allowed = thread->allowed,
    };
    if (info->state != 'R') {
        info->wait_channel = READ_ONCE(thread->wait_channel);
    }
    strscpy(info->name, thread->name, sizeof(info->name));
}

int thread_info_prio(const struct thread_info *info)
{
    return info->rt_effective != 0 ? 99 - (int)info->rt_effective : 120 + info->nice;
}

const char *sched_policy_name(enum sched_policy policy)
{
    switch (policy) {
    case SCHED_FIFO:
        return "SCHED_FIFO";
    case SCHED_RR:
        return "SCHED_RR";
    case SCHED_IDLE:
        return "SCHED_IDLE";
    default:
        return "SCHED_OTHER";
    }
}

// ---- finding -----------------------------------------------------------------------------------

struct thread_search {
    int tid;
    struct thread *found;
};

static void thread_search_visit(struct thread *thread, void *arg)
{
    struct thread_search *search = arg;

    if (thread->tid == search->tid && search->found == NULL) {
        thread_get(thread); // under the table's lock it cannot be the last moment
        search->found = thread;
    }
}

struct thread *thread_find(int tid)
{
    struct thread_search search = {.tid = tid};

    if (tid > 0) {
        thread_for_each(thread_search_visit, &search);
    }
    return search.found;
}

struct thread_copy {
    struct thread_table *table;
    unsigned room, count; // count may be larger: threads that found no room
};

static void thread_copy_visit(struct thread *thread, void *arg)
{
    struct thread_copy *copy = arg;

    if (thread->tid != 0 && copy->count++ < copy->room) {
        thread_info(thread, &copy->table->rows[copy->count - 1]);
    }
}

// Threads may be born while we look how many there are, so there is room for some more, and if that
// was not enough we look again.
struct thread_table *thread_table_copy(void)
{
    struct thread_copy copy = {.room = 64};

    might_sleep();
    for (;;) {
        copy.table =
            kmalloc(sizeof(*copy.table) + copy.room * sizeof(copy.table->rows[0]), GFP_KERNEL);
        if (copy.table == NULL) {
            return NULL;
        }
        copy.count = 0;
        thread_for_each(thread_copy_visit, &copy);
        if (copy.count <= copy.room) {
            copy.table->count = copy.count;
            return copy.table;
        }
        kfree(copy.table);
        copy.room = copy.count + 16;
    }
}
