// Tasklets in every order of steps: kernel/defer/tasklet.c as it is, compiled here with a step
// before each of its atomic accesses, on CPUs that have a thread, a softirq and an interrupt each
// (tests/host/interleave.c). What is looked at in each way:
//
//   twice at once      the function runs on two CPUs
//   lost               what somebody had to show before he scheduled it is not seen by any run
//   too often          more runs than askings; asked for during a run it runs exactly once more
//   disabled           it runs between tasklet_disable() and tasklet_enable()
//   killed             it runs, or begins to, when tasklet_kill() has returned
//
// The last test seeds mistakes: an atomic access does what it would in a source with that mistake.
// Each must be found.
//
// links: tests/host/interleave.c kernel/lib/text.c kernel/lib/format.c kernel/lib/string.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <sched/wait.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>

#include "interleave.h"

// A tasklet, and what is known of it.
static struct subject {
    struct tasklet_struct tasklet;
    unsigned shown, seen;                     // by those who ask, by the runs
    unsigned begun, asked;                    // askings: begun, over
    unsigned asked_in_run;                    // askings that began and ended during the first run
    unsigned runs, inside;                    // begun; under way
    unsigned again;                           // so often it asks for itself
    bool disabled, killed;                    // and so it stays at rest
    unsigned begun_at_kill, begun_after_kill; // askings: it need not run for those before
} subjects[2];

// ---- the source under test, with mistakes --------------------------------------------------------

static enum seed {
    NO_MISTAKE,
    CLEARED_LATE,   // SCHEDULED is cleared after the function has run, not before
    CLEARED_TORN,   // a bit is cleared by a load and a store
    BEGUN_TORN,     // one looks whether it may run, and then marks that it does
    PARKED_BLINDLY, // nobody looks again whether it was enabled meanwhile
    NOT_WAITED,     // disable and kill do not wait for the end of a run
    SEEDS
} seed;

static uint32_t seeded_and(uint32_t *state, uint32_t mask);
static bool seeded_begin(uint64_t *state_and_disabled, uint64_t *asked, uint64_t running);
static uint32_t seeded_load(const uint32_t *at);

#define STEP(order) ((order) == __ATOMIC_RELAXED ? (void)0 : step())

#define __atomic_fetch_or(at, bits, order)                                (STEP(order), __atomic_fetch_or(at, bits, order))
#define __atomic_fetch_add(at, by, order)                                 (STEP(order), __atomic_fetch_add(at, by, order))
#define __atomic_sub_fetch(at, by, order)                                 (STEP(order), __atomic_sub_fetch(at, by, order))
#define __atomic_exchange_n(at, new, order)                               (STEP(order), __atomic_exchange_n(at, new, order))
#define __atomic_fetch_and(at, mask, order)                               seeded_and(at, mask)
#define __atomic_load_n(at, order)                                        seeded_load(at)
#define __atomic_compare_exchange_n(at, old, new, weak, success, failure) seeded_begin(at, old, new)
#undef cpu_field_check // a line of each of the steps on this CPU's own fields
#define cpu_field_check(field)   step()
#define local_irq_save()         (step_irqs_off(), CPU_FLAGS_IF)
#define local_irq_restore(flags) ((void)(flags), step_irqs_on())
#define cpu_relax()              spin()

#include "kernel/defer/tasklet.c"

#undef __atomic_fetch_or
#undef __atomic_fetch_add
#undef __atomic_sub_fetch
#undef __atomic_exchange_n
#undef __atomic_fetch_and
#undef __atomic_load_n
#undef __atomic_compare_exchange_n

static uint32_t seeded_and(uint32_t *state, uint32_t mask)
{
    step();
    if (seed == CLEARED_TORN) {
        uint32_t old = *state;

        step();
        *state = old & mask;
        return old;
    }
    if (seed == CLEARED_LATE && mask == ~(uint32_t)TASKLET_RUNNING) {
        mask = ~(uint32_t)(TASKLET_RUNNING | TASKLET_SCHEDULED);
    }
    return __atomic_fetch_and(state, mask, __ATOMIC_SEQ_CST);
}

static bool seeded_begin(uint64_t *state_and_disabled, uint64_t *asked, uint64_t running)
{
    step();
    if (seed == BEGUN_TORN && *state_and_disabled == *asked) {
        step();
        *(uint32_t *)state_and_disabled = (uint32_t)running;
        return true;
    }
    if (seed == CLEARED_LATE) {
        running |= TASKLET_SCHEDULED;
    }
    return __atomic_compare_exchange_n(state_and_disabled, asked, running, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

static uint32_t seeded_load(const uint32_t *at)
{
    bool is_state = at == &subjects[0].tasklet.state || at == &subjects[1].tasklet.state;

    step();
    if (seed == NOT_WAITED && is_state) {
        return *at & ~(uint32_t)TASKLET_RUNNING;
    }
    if (seed == PARKED_BLINDLY && !is_state) {
        const struct tasklet_struct *t = container_of(at, struct tasklet_struct, disabled);

        return (t->state & TASKLET_PARKED) != 0 ? 1 : *at;
    }
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}

// ---- what tasklet.c asks for ---------------------------------------------------------------------

static void (*actions[SOFTIRQ_SLOTS])(void);

void open_softirq(enum softirq nr, void (*action)(void))
{
    actions[nr] = action;
}

void softirq_wake_thread(void)
{
}

void preempt_enable_slow(void)
{
}

void trace(enum trace_event event, uint32_t a, uint64_t b)
{
    (void)event;
    (void)a;
    (void)b;
}

void text_symbol(struct text *t, uintptr_t address)
{
    (void)t;
    (void)address;
}

void warn_at(const char *file, int line, const char *what)
{
    (void)file;
    (void)line;
    (void)what;
    search.wrong++;
}

void assert_context_failed(unsigned allowed, const char *function)
{
    fail_msg("%s: not in one of %#x", function, allowed);
}

uint32_t schedule_timeout(uint32_t timeout_jiffies) // of tasklet_kill(): it looks again
{
    (void)timeout_jiffies;
    current->state = THREAD_RUNNING;
    spin();
    return 0;
}

// ---- actors --------------------------------------------------------------------------------------

static void ask(struct subject *s)
{
    bool in_run = s->inside != 0 && s->runs == 1;

    s->begun++;
    s->shown++;
    tasklet_schedule(&s->tasklet);
    s->asked++;
    s->asked_in_run += in_run && s->inside != 0 && s->runs == 1;
}

static void function(struct tasklet_struct *t)
{
    struct subject *s = container_of(t, struct subject, tasklet);

    search.wrong += s->inside++ != 0;
    search.wrong += s->disabled;
    search.wrong += s->killed && s->begun == s->begun_at_kill;
    s->runs++;
    s->seen = s->shown;
    step();
    if (s->again != 0) {
        s->again--;
        ask(s);
    }
    step();
    search.wrong += s->disabled;
    s->inside--;
}

static bool pending(void)
{
    return softirq_pending();
}

// What raised a softirq and got nowhere waits for somebody else.
static void softirq(void)
{
    struct cpu *cpu = cpu_self();
    unsigned runs = subjects[0].runs + subjects[1].runs;
    uint32_t todo = cpu->softirq_pending;

    cpu->softirq_pending = 0;
    cpu->serving_softirq = true;
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        if ((todo & BIT(nr)) != 0) {
            actions[nr]();
        }
    }
    cpu->serving_softirq = false;
    if (subjects[0].runs + subjects[1].runs == runs) {
        looked_in_vain();
    }
}

static void asker(void)
{
    ask(&subjects[0]);
}

static void asker_in_interrupt(void) // above thread code: the way without turning interrupts off
{
    cpu_self()->irq_depth++;
    asker();
    cpu_self()->irq_depth--;
}

static void asker_of_both(void)
{
    ask(&subjects[0]);
    ask(&subjects[1]);
}

static void asker_high(void)
{
    subjects[0].begun++;
    subjects[0].shown++;
    tasklet_hi_schedule(&subjects[0].tasklet);
    subjects[0].asked++;
}

static void disabler(void)
{
    struct subject *s = &subjects[0];

    tasklet_disable(&s->tasklet);
    search.wrong += s->inside != 0;
    s->disabled = true;
    step();
    s->disabled = false;
    tasklet_enable(&s->tasklet);
}

static void enabler(void)
{
    tasklet_enable(&subjects[0].tasklet);
}

static void killer(void)
{
    struct subject *s = &subjects[0];
    bool none_comes = s->begun == s->asked && s->again == 0;
    unsigned run = s->inside != 0 ? s->runs : 0;

    s->begun_at_kill = s->begun;
    tasklet_kill(&s->tasklet);
    search.wrong += s->inside != 0 && s->runs == run;
    search.wrong += s->inside != 0 && none_comes && s->begun == s->begun_at_kill;
    s->killed = none_comes;
    s->begun_after_kill = s->begun;
}

static void asker_and_killer(void)
{
    asker();
    killer();
}

// ---- scenes --------------------------------------------------------------------------------------

static void set_up(void (*thread0)(void), void (*thread1)(void))
{
    for (unsigned i = 0; i < 2; i++) {
        subjects[i] = (struct subject){0};
        tasklet_setup(&subjects[i].tasklet, function, "subject");
    }
    actor_add(thread0, 0, ACTOR_THREAD, NULL);
    actor_add(softirq, 0, ACTOR_SOFTIRQ, pending);
    actor_add(thread1, 1, ACTOR_THREAD, NULL);
    actor_add(softirq, 1, ACTOR_SOFTIRQ, pending);
}

static void look_at(const struct subject *s)
{
    search.wrong += s->inside != 0 || s->tasklet.state_and_disabled != 0;
    search.wrong += s->runs > s->asked;
}

// Nobody took it back: each asking was served.
static void all_were_seen(void)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct subject *s = &subjects[i];

        look_at(s);
        search.wrong += s->seen != s->shown;
        if (s->asked_in_run != 0 && s->asked_in_run == s->asked - 1) {
            search.wrong += s->runs != 2;
        }
    }
}

// Killed: what was asked for afterwards was served.
static void killed_for_good(void)
{
    const struct subject *s = &subjects[0];

    look_at(s);
    search.wrong += s->begun != s->begun_after_kill && s->seen != s->shown;
}

static void two_ask(void)
{
    set_up(asker, asker);
}

static void three_ask(void)
{
    set_up(asker, asker);
    actor_add(asker_in_interrupt, 1, ACTOR_HARDIRQ, NULL);
}

static void it_asks_for_itself(void)
{
    set_up(asker, asker);
    subjects[0].again = 1;
}

static void two_tasklets(void)
{
    set_up(asker_of_both, asker_of_both);
}

static void one_asks_for_high(void)
{
    set_up(asker, asker_high);
}

static void one_disables(void)
{
    set_up(asker, disabler);
}

static void both_disable(void)
{
    set_up(disabler, disabler);
    actor_add(asker_in_interrupt, 1, ACTOR_HARDIRQ, NULL);
}

static void one_kills(void)
{
    set_up(asker, killer);
}

static void one_kills_its_own(void)
{
    set_up(asker_and_killer, asker);
}

static void one_kills_what_asks_for_itself(void)
{
    set_up(asker, killer);
    subjects[0].again = 2;
}

static void one_kills_and_one_enables(void)
{
    set_up(enabler, asker_and_killer);
    tasklet_disable_nosync(&subjects[0].tasklet);
}

static void expect_right(const char *name, void (*scene)(void), void (*at_end)(void),
                         unsigned switches, uint64_t at_least)
{
    seed = NO_MISTAKE;
    explore(scene, at_end, switches);
    print_message("%-32s %8llu ways\n", name, (unsigned long long)search.ways);
    assert_int_equal(search.lost, 0);
    assert_int_equal(search.wrong, 0);
    assert_true(search.ways >= at_least); // it did try
}
#define EXPECT_RIGHT(scene, at_end, switches, at_least) \
    expect_right(#scene, scene, at_end, switches, at_least)

static void test_schedule(void **state)
{
    (void)state;
    EXPECT_RIGHT(two_ask, all_were_seen, 4, 2000);
    EXPECT_RIGHT(three_ask, all_were_seen, 4, 2000);
    EXPECT_RIGHT(it_asks_for_itself, all_were_seen, 4, 2000);
    EXPECT_RIGHT(two_tasklets, all_were_seen, 3, 2000);
    EXPECT_RIGHT(one_asks_for_high, all_were_seen, 4, 2000);
}

static void test_disable(void **state)
{
    (void)state;
    EXPECT_RIGHT(one_disables, all_were_seen, 4, 2000);
    EXPECT_RIGHT(both_disable, all_were_seen, 4, 2000);
}

static void test_kill(void **state)
{
    (void)state;
    EXPECT_RIGHT(one_kills, killed_for_good, 4, 2000);
    EXPECT_RIGHT(one_kills_its_own, killed_for_good, 4, 2000);
    EXPECT_RIGHT(one_kills_what_asks_for_itself, killed_for_good, 4, 2000);
    EXPECT_RIGHT(one_kills_and_one_enables, killed_for_good, 4, 2000);
}

// ---- seeded mistakes -----------------------------------------------------------------------------

static void expect_found(enum seed mistake, void (*scene)(void), void (*at_end)(void))
{
    seed = mistake;
    explore_mistake(mistake, scene, at_end, 3);
}

static void test_seeded_mistakes_are_found(void **state)
{
    (void)state;
    expect_found(CLEARED_LATE, two_ask, all_were_seen);
    expect_found(CLEARED_TORN, two_ask, all_were_seen);
    expect_found(BEGUN_TORN, one_disables, all_were_seen);
    expect_found(PARKED_BLINDLY, one_disables, all_were_seen);
    expect_found(NOT_WAITED, one_disables, all_were_seen);
    expect_found(NOT_WAITED, one_kills, killed_for_good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_disable),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_seeded_mistakes_are_found),
    };

    tasklet_init_subsystem();
    return interleave_run_tests(tests);
}
