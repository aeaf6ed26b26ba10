// Sleeping and waking in every order: kernel/sched/wait.c and completion.c as they are, run by a
// small scheduler that may switch CPUs at each step, and tries all ways to do so, depth first.
//
// Each actor is a CPU with one thread, or an interrupt on such a CPU, and a coroutine here. A step
// ends where another CPU's doing could make a difference: before and after a lock, before a
// wake-up, at each look at a condition, and where a thread goes to sleep. A way is a row of
// choices, one at each step; it is run again from the start with the last choice that has an
// alternative changed, until there is none. More than SWITCHES_MAX switches away from somebody who
// could have gone on are not tried: mistakes of this kind need two. What is told of each way:
//
//   lost wake-up      nobody can go on, and somebody is not done
//   double enqueue    a thread is made runnable that is runnable
//   late touch        a completion or an entry is touched when its owner has left (AddressSanitizer)
//
// The last tests seed the classic mistakes, which must be found.
//
// links: kernel/sched/wait.c kernel/sched/completion.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <asm/prctl.h>
#include <cmocka.h>

#include <sched/completion.h>
#include <sched/wait.h>

enum { ACTORS_MAX = 4, STEPS_MAX = 400, SWITCHES_MAX = 4, STACK_SIZE = 64 << 10 };

struct actor {
    ucontext_t context;
    uint8_t *stack;
    void (*fn)(void);
    struct thread thread;
    struct spinlock *wants; // it cannot go on before that is free
    int on;                 // an interrupt: the actor whose CPU it strikes; -1: a thread
    unsigned irqs_off;      // nesting
    bool begun, asleep, done;
};

static struct actor actors[ACTORS_MAX];
static unsigned actor_count, running; // the actor that has the host's CPU
static ucontext_t chooser;
static struct cpu fake_cpu; // what %gs leads to

// ---- the ways ----

static struct {
    uint8_t choice[STEPS_MAX], options[STEPS_MAX];
    unsigned length, depth;
    uint64_t ways;
    unsigned lost, doubles;
} search;

// Which of `options` possibilities: as before where this way repeats the last one, else the first.
static unsigned choose(unsigned options)
{
    unsigned at = search.depth++;

    assert_true(at < STEPS_MAX);
    if (at >= search.length) {
        search.choice[at] = 0;
        search.options[at] = (uint8_t)options;
        search.length = at + 1;
    }
    assert_int_equal(search.options[at], options);
    return search.choice[at];
}

// The next way; false: all were gone.
static bool next_way(void)
{
    while (search.length != 0) {
        unsigned last = search.length - 1;

        if (++search.choice[last] < search.options[last]) {
            return true;
        }
        search.length--;
    }
    return false;
}

// ---- the machine ----

static bool interrupted(unsigned i)
{
    for (unsigned k = 0; k < actor_count; k++) {
        if (actors[k].on == (int)i && actors[k].begun && !actors[k].done) {
            return true;
        }
    }
    return false;
}

static bool may_run(unsigned i)
{
    const struct actor *a = &actors[i];

    if (a->done || a->asleep || interrupted(i) || (a->wants != NULL && a->wants->holder != 0)) {
        return false;
    }
    return a->on < 0 || a->begun || actors[a->on].irqs_off == 0;
}

static void step(void)
{
    swapcontext(&actors[running].context, &chooser);
}

static void actor_main(void)
{
    actors[running].fn();
    actors[running].done = true;
    step();
}

static void run_actor(unsigned i)
{
    struct actor *a = &actors[i];

    running = i;
    a->begun = true;
    // In an interrupt `current` is who was interrupted.
    fake_cpu.thread = &actors[a->on >= 0 ? a->on : (int)i].thread;
    swapcontext(&chooser, &a->context);
}

static void run_way(void)
{
    unsigned last = ACTORS_MAX, switches = 0;

    search.depth = 0;
    for (;;) {
        unsigned can[ACTORS_MAX], count = 0;

        if (last < actor_count && may_run(last)) {
            can[count++] = last; // to go on is the first choice
        }
        bool goes_on = count != 0;
        for (unsigned i = 0; i < actor_count && !(goes_on && switches == SWITCHES_MAX); i++) {
            if (i != last && may_run(i)) {
                can[count++] = i;
            }
        }
        if (count == 0) {
            break;
        }
        unsigned chosen = count == 1 ? 0 : choose(count);
        switches += goes_on && chosen != 0;
        last = can[chosen];
        run_actor(last);
    }
    for (unsigned i = 0; i < actor_count; i++) {
        if (!actors[i].done) {
            search.lost++;
            break;
        }
    }
}

static void add_actor(void (*fn)(void), int on)
{
    struct actor *a = &actors[actor_count++];
    uint8_t *stack = a->stack != NULL ? a->stack : malloc(STACK_SIZE);

    *a = (struct actor){.fn = fn, .on = on, .stack = stack};
    getcontext(&a->context);
    a->context.uc_stack.ss_sp = stack;
    a->context.uc_stack.ss_size = STACK_SIZE;
    makecontext(&a->context, actor_main, 0);
}

// Every way of a scene, which its set_up lays out anew each time.
static void explore(void (*set_up)(void))
{
    memset(&search, 0, sizeof(search));
    do {
        actor_count = 0;
        set_up();
        run_way();
        search.ways++;
    } while (next_way());
}

// ---- what wait.c and completion.c ask for ----

void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

void spin_lock(struct spinlock *lock)
{
    struct actor *a = &actors[running];

    a->wants = lock;
    step();
    assert_int_equal(lock->holder, 0);
    a->wants = NULL;
    lock->holder = running + 1;
}

void spin_unlock(struct spinlock *lock)
{
    assert_int_equal(lock->holder, running + 1);
    lock->holder = 0;
    step();
}

void spin_lock_irq(struct spinlock *lock)
{
    actors[running].irqs_off++;
    spin_lock(lock);
}

void spin_unlock_irq(struct spinlock *lock)
{
    actors[running].irqs_off--;
    spin_unlock(lock);
}

unsigned long spin_lock_irqsave_flags(struct spinlock *lock)
{
    spin_lock_irq(lock);
    return CPU_FLAGS_IF;
}

void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags)
{
    assert_int_equal(flags, CPU_FLAGS_IF);
    spin_unlock_irq(lock);
}

bool sched_wake_atomic(struct thread *thread)
{
    struct actor *sleeper = container_of(thread, struct actor, thread);

    step();
    if (thread->state == THREAD_RUNNING) {
        return false;
    }
    thread->state = THREAD_RUNNING;
    if (sleeper->asleep) {
        search.doubles += thread->on_queue;
        thread->on_queue = true;
        sleeper->asleep = false;
    }
    return true;
}

void schedule(void)
{
    struct actor *a = &actors[running];

    assert_int_equal(a->irqs_off, 0);
    step();
    if (a->thread.state != THREAD_RUNNING) {
        a->thread.on_queue = false;
        a->asleep = true;
        step(); // until somebody wakes it
        assert_int_equal(a->thread.state, THREAD_RUNNING);
    }
}

uint32_t schedule_timeout(uint32_t timeout_jiffies)
{
    schedule();
    return timeout_jiffies;
}

bool thread_interrupted(void)
{
    return false;
}

// As the kernel's, in line there.
void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    current->state = THREAD_RUNNING;
    step();
    if (__atomic_load_n(&entry->link.prev, __ATOMIC_ACQUIRE) != &entry->link) {
        wait_entry_remove(queue, entry);
    }
}

// ---- scenes: a condition ----

static struct wait_queue_head queue;
static bool condition;
static unsigned passed;

static bool look(void)
{
    step();
    bool seen = condition;
    step();
    return seen;
}

static void sleeper(void)
{
    wait_event(&queue, look());
    passed++;
}

static void waker(void)
{
    step();
    condition = true;
    step();
    wake_up(&queue);
}

static void waker_all(void)
{
    step();
    condition = true;
    step();
    wake_up_all(&queue);
}

static void set_up_condition(void)
{
    init_waitqueue_head(&queue, "q");
    condition = false;
    passed = 0;
}

static void one_cpu_wakes(void)
{
    set_up_condition();
    add_actor(sleeper, -1);
    add_actor(waker, -1);
}

static void two_cpus_wake(void)
{
    one_cpu_wakes();
    add_actor(waker, -1);
}

static void an_interrupt_wakes(void)
{
    set_up_condition();
    add_actor(sleeper, -1);
    add_actor(waker, 0);
}

static void two_sleep(void)
{
    set_up_condition();
    add_actor(sleeper, -1);
    add_actor(sleeper, -1);
    add_actor(waker_all, -1);
}

static void expect_none_lost(void (*set_up)(void), uint64_t at_least)
{
    explore(set_up);
    print_message("%llu ways\n", (unsigned long long)search.ways);
    assert_int_equal(search.lost, 0);
    assert_int_equal(search.doubles, 0);
    assert_true(search.ways >= at_least); // it did try
}

static void test_condition(void **state)
{
    (void)state;
    expect_none_lost(one_cpu_wakes, 200);
    expect_none_lost(an_interrupt_wakes, 6);
    expect_none_lost(two_cpus_wake, 5000);
    expect_none_lost(two_sleep, 5000);
}

// ---- scenes: a completion, which lies with its waiter and is gone when he has returned ----

static struct completion *completion;

static void completion_waiter(void)
{
    wait_for_completion(completion);
    memset(completion, 0x6b, sizeof(*completion));
    free(completion);
    passed++;
}

static void completion_teller(void)
{
    step();
    complete(completion);
}

static void set_up_completion(void)
{
    passed = 0;
    completion = malloc(sizeof(*completion));
    init_completion(completion);
    add_actor(completion_waiter, -1);
}

static void one_cpu_tells(void)
{
    set_up_completion();
    add_actor(completion_teller, -1);
}

static void an_interrupt_tells(void)
{
    set_up_completion();
    add_actor(completion_teller, 0);
}

static void test_completion(void **state)
{
    (void)state;
    expect_none_lost(one_cpu_tells, 50);
    expect_none_lost(an_interrupt_tells, 3);
}

// ---- seeded mistakes ----

// The condition is looked at first, and then the thread says that it sleeps.
static void hasty_sleeper(void)
{
    DEFINE_WAIT(entry);

    if (!look()) {
        prepare_to_wait(&queue, &entry, THREAD_BLOCKED);
        schedule();
        finish_wait(&queue, &entry);
    }
    passed++;
}

static void a_hasty_one_sleeps(void)
{
    set_up_condition();
    add_actor(hasty_sleeper, -1);
    add_actor(waker, -1);
}

// Everybody is woken first, and then the condition becomes true.
static void hasty_waker(void)
{
    step();
    wake_up(&queue);
    condition = true;
}

static void a_hasty_one_wakes(void)
{
    set_up_condition();
    add_actor(sleeper, -1);
    add_actor(hasty_waker, -1);
}

static void expect_found(void (*set_up)(void))
{
    explore(set_up);
    assert_true(search.lost > 0);
}

static void test_seeded_mistakes_are_found(void **state)
{
    (void)state;
    expect_found(a_hasty_one_sleeps);
    assert_true(search.lost < search.ways); // most ways go well: that is why luck does not find it
    expect_found(a_hasty_one_wakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_condition),
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_seeded_mistakes_are_found),
    };

    // cpu_self() and its kin read through %gs, which programs do not use here.
    fake_cpu.self = &fake_cpu;
    syscall(SYS_arch_prctl, ARCH_SET_GS, &fake_cpu);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        free(actors[i].stack);
    }
    return failed;
}
