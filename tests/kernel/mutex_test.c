// Mutexes: one at a time, nobody forgotten.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <sched/mutex.h>
#include <sched/sleep.h>

#include "eventually.h"

enum { CONTENDERS = 4, ROUNDS = 2000 };

static DEFINE_MUTEX(mutex);
static unsigned inside, worst;
static volatile unsigned plain_count; // only the mutex makes it right

static void contender_thread(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        mutex_lock(&mutex);
        unsigned now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        worst = max(worst, now);
        plain_count = plain_count + 1;
        if (i % 64 == 0) {
            yield(); // sleep or be preempted with the mutex held
        }
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        mutex_unlock(&mutex);
    }
}

KTEST(mutex, contention_on_four_threads)
{
    struct thread *threads[CONTENDERS];

    plain_count = worst = inside = 0;
    for (unsigned i = 0; i < CONTENDERS; i++) {
        threads[i] = kthread_run(contender_thread, NULL, "contender/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < CONTENDERS; i++) {
        thread_join(threads[i]);
    }
    EXPECT_EQ(plain_count, CONTENDERS * ROUNDS);
    EXPECT_EQ(worst, 1);
    EXPECT(mutex_trylock(&mutex));
    mutex_unlock(&mutex);
}

KTEST(mutex, trylock)
{
    EXPECT(mutex_trylock(&mutex));
    EXPECT(!mutex_trylock(&mutex));
    mutex_unlock(&mutex);
    EXPECT(mutex_trylock(&mutex));
    mutex_unlock(&mutex);
}

static char order[8];
static unsigned order_length;

static unsigned waiters(void)
{
    struct list_head *entry;
    unsigned length = 0;

    preempt_disable(); // nobody leaves the list: its mutex is ours
    for (entry = READ_ONCE(mutex.waiters.next); entry != &mutex.waiters && length < 100;
         entry = READ_ONCE(entry->next)) {
        length++;
    }
    preempt_enable();
    return length;
}

struct letter {
    char letter;
    int priority; // 0: an ordinary thread
};

static void letter_thread(void *arg)
{
    const struct letter *letter = arg;

    if (letter->priority != 0) {
        sched_setscheduler(current, SCHED_FIFO, letter->priority);
    }
    mutex_lock(&mutex);
    order[order_length++] = letter->letter;
    mutex_unlock(&mutex);
}

// Waiters get it in the order in which they came, realtime threads before them by priority.
KTEST(mutex, handed_over_in_order)
{
    static struct letter letters[] = {{'d', 0},  {'e', 0},  {'b', 10},
                                      {'a', 20}, {'c', 10}, {'f', 0}};
    struct thread *threads[ARRAY_SIZE(letters)];

    memset(order, 0, sizeof(order));
    order_length = 0;
    mutex_lock(&mutex);
    for (unsigned i = 0; i < ARRAY_SIZE(letters); i++) {
        threads[i] = kthread_run(letter_thread, &letters[i], "letter");
        REQUIRE(threads[i] != NULL);
        EXPECT(EVENTUALLY(waiters() == i + 1));
    }
    mutex_unlock(&mutex);
    for (unsigned i = 0; i < ARRAY_SIZE(letters); i++) {
        thread_join(threads[i]);
    }
    EXPECT(strcmp(order, "abcdef") == 0);
}

static int interrupted_result;

static void interrupted_thread(void *arg)
{
    (void)arg;
    interrupted_result = mutex_lock_interruptible(&mutex);
}

KTEST(mutex, interrupted_waiter_leaves_the_queue)
{
    struct thread *thread;

    interrupted_result = 1;
    mutex_lock(&mutex);
    thread = kthread_run(interrupted_thread, NULL, "interrupted");
    REQUIRE(thread != NULL);
    EXPECT(EVENTUALLY(waiters() == 1));
    thread_interrupt(thread);
    thread_join(thread);
    EXPECT_EQ(interrupted_result, -EINTR);
    EXPECT_EQ(waiters(), 0);
    mutex_unlock(&mutex);
    EXPECT_EQ(mutex_lock_interruptible(&mutex), 0);
    mutex_unlock(&mutex);
}
