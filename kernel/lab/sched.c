// `lab threads` and `lab ping`: campaigns against the promises of the scheduler, on every CPU at
// once, as long as one likes.
//
//   threads   threads that compute, yield and sleep are given other CPUs, classes and shares at
//             random: none ever runs on a CPU that it may not use, and all of them go on
//   ping      pairs of threads on different CPUs wake each other in turn: no wake-up is lost, be it
//             by who is just going to sleep, by a CPU between its last look and HLT, or by a thread
//             that is on its way from one CPU to another
//
// What a thread checks, it checks on itself, so the campaign can fail.
//
// Context: thread.
#include <lib/parse.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <sched/wait.h>

enum {
    LAB_SCHED_THREADS = 12,
    LAB_SCHED_MOST = 100000000,
    LAB_SCHED_DEFAULT = 5000,
    LAB_SCHED_PATIENCE_MS = 20000, // without any progress
};

static uint32_t lab_sched_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static int lab_sched_parse(struct shell *sh, int argc, char **argv, uint32_t *count)
{
    *count = LAB_SCHED_DEFAULT;
    if (argc > 2 || (argc == 2 && (kstrtou32(argv[1], 10, count) != 0 || *count == 0 ||
                                   *count > LAB_SCHED_MOST))) {
        return shell_usage(sh, "a number, 1 to %d", LAB_SCHED_MOST);
    }
    return 0;
}

// ---- threads -----------------------------------------------------------------------------------

struct lab_subject {
    struct thread *thread;
    uint32_t random;
    uint64_t rounds;    // A
    uint64_t forbidden; // A: rounds that it found itself where it may not be
};

// A thread that must leave its CPU runs there until the interrupt that says so: `misplaced`. It may
// be changed between the two looks, so one look is not enough; what is wrong stays wrong, as with
// interrupts off nobody moves us.
static bool lab_subject_is_right(const struct thread *self)
{
    bool right = false;

    for (unsigned look = 0; look < 4 && !right; look++) {
        right = cpumask_test(&self->allowed, cpu_id()) || READ_ONCE(self->misplaced);
    }
    return right;
}

static void lab_subject_run(void *arg)
{
    struct lab_subject *subject = arg;
    struct thread *self = current;

    while (!kthread_should_stop()) {
        unsigned long flags = local_irq_save();
        bool right = lab_subject_is_right(self);
        local_irq_restore(flags);
        if (!right) {
            WRITE_ONCE(subject->forbidden, subject->forbidden + 1);
        }
        WRITE_ONCE(subject->rounds, subject->rounds + 1);
        switch (lab_sched_random(&subject->random) % 64) {
        case 0:
            msleep_interruptible(1);
            break;
        case 1:
        case 2:
            yield();
            break;
        default:
            cpu_relax();
        }
    }
}

static void lab_change(struct thread *thread, uint32_t *random)
{
    unsigned cpus_up = cpumask_weight(&cpu_online_mask);
    struct cpumask mask = {0};

    switch (lab_sched_random(random) % 4) {
    case 0:
        sched_set_nice(thread, (int)(lab_sched_random(random) % 40) - 20);
        break;
    case 1:
        sched_setscheduler(thread, SCHED_OTHER, 0);
        break;
    case 2:
        if (lab_sched_random(random) % 2 == 0) {
            sched_setscheduler(thread, SCHED_RR, (int)(lab_sched_random(random) % 20) + 1);
        } else {
            sched_setscheduler(thread, SCHED_IDLE, 0);
        }
        break;
    default:
        mask.bits[0] = lab_sched_random(random) % (BIT64(min(cpus_up, 20u)) - 1) + 1;
        sched_setaffinity(thread, &mask);
    }
}

// Everybody gets on: waits until each has done a round since now.
static unsigned lab_subjects_stuck(struct lab_subject *subjects)
{
    uint64_t before[LAB_SCHED_THREADS];
    uint64_t patience = clock_ns() + LAB_SCHED_PATIENCE_MS * 1000000ull;
    unsigned stuck = LAB_SCHED_THREADS;

    for (unsigned i = 0; i < LAB_SCHED_THREADS; i++) {
        sched_setscheduler(subjects[i].thread, SCHED_OTHER, 0);
        before[i] = READ_ONCE(subjects[i].rounds);
    }
    while (stuck != 0 && clock_ns() < patience) {
        msleep(4);
        stuck = 0;
        for (unsigned i = 0; i < LAB_SCHED_THREADS; i++) {
            stuck += READ_ONCE(subjects[i].rounds) == before[i];
        }
    }
    return stuck;
}

static int lab_threads_run(struct shell *sh, struct lab_subject *subjects, uint32_t count)
{
    uint32_t random = 1, done = 0;
    uint64_t rounds = 0, forbidden = 0;

    for (; done < count && !shell_interrupted(sh); done++) {
        lab_change(subjects[lab_sched_random(&random) % LAB_SCHED_THREADS].thread, &random);
        if (done % 64 == 63) {
            msleep(1); // the subjects are to notice, too
        }
    }
    unsigned stuck = lab_subjects_stuck(subjects);
    for (unsigned i = 0; i < LAB_SCHED_THREADS; i++) {
        kthread_stop(subjects[i].thread);
        rounds += subjects[i].rounds;
        forbidden += subjects[i].forbidden;
    }
    shell_printf(sh, "%u changes to %d threads, %llu rounds; on a forbidden CPU %llu, lost %u\n",
                 done, LAB_SCHED_THREADS, (unsigned long long)rounds, (unsigned long long)forbidden,
                 stuck);
    return forbidden != 0 || stuck != 0;
}

static int lab_threads(struct shell *sh, int argc, char **argv)
{
    uint32_t count;
    int status = lab_sched_parse(sh, argc, argv, &count);

    if (status != 0) {
        return status;
    }
    struct lab_subject *subjects = kcalloc(LAB_SCHED_THREADS, sizeof(*subjects), GFP_KERNEL);
    if (subjects == NULL) {
        return shell_error(sh, "no memory");
    }
    // Above the realtime subjects, so that they cannot keep us from telling.
    sched_setscheduler(current, SCHED_FIFO, 30);
    for (unsigned i = 0; i < LAB_SCHED_THREADS; i++) {
        subjects[i].random = i;
        subjects[i].thread = kthread_run(lab_subject_run, &subjects[i], "subject/%u", i);
        if (subjects[i].thread == NULL) {
            while (i-- > 0) {
                kthread_stop(subjects[i].thread);
            }
            kfree(subjects);
            return shell_error(sh, "no memory for a thread");
        }
    }
    status = lab_threads_run(sh, subjects, count);
    kfree(subjects);
    return status;
}

LAB("threads", lab_threads, "[CHANGES]",
    "other CPUs, classes, shares at random: never on a forbidden CPU, none lost");

// ---- ping --------------------------------------------------------------------------------------

// A ball that two threads throw to each other; each waits for it in its own queue.
struct lab_ball {
    struct wait_queue_head queues[2];
    unsigned side;           // A: where it is
    uint32_t throws, wanted; // A; I
    struct thread *threads[2];
};

struct lab_player {
    struct lab_ball *ball;
    unsigned side;
};

static void lab_player_run(void *arg)
{
    const struct lab_player *player = arg;
    struct lab_ball *ball = player->ball;

    while (READ_ONCE(ball->throws) < ball->wanted) {
        wait_event(&ball->queues[player->side], READ_ONCE(ball->side) == player->side ||
                                                    READ_ONCE(ball->throws) >= ball->wanted);
        if (READ_ONCE(ball->throws) < ball->wanted) {
            WRITE_ONCE(ball->throws, ball->throws + 1);
            WRITE_ONCE(ball->side, !player->side);
        }
        wake_up(&ball->queues[!player->side]);
    }
}

// Until all balls have been thrown often enough; how many have stopped before that.
static unsigned lab_ping_wait(struct shell *sh, struct lab_ball *balls, unsigned count)
{
    uint64_t last = 0, patience = clock_ns() + LAB_SCHED_PATIENCE_MS * 1000000ull;

    for (;;) {
        uint64_t now = 0;
        unsigned playing = 0;

        for (unsigned i = 0; i < count; i++) {
            if (shell_interrupted(sh)) {
                WRITE_ONCE(balls[i].wanted, 0);
            }
            now += READ_ONCE(balls[i].throws);
            playing += READ_ONCE(balls[i].throws) < READ_ONCE(balls[i].wanted);
        }
        if (playing == 0 || (now == last && clock_ns() > patience)) {
            return playing;
        }
        if (now != last) {
            patience = clock_ns() + LAB_SCHED_PATIENCE_MS * 1000000ull;
        }
        last = now;
        msleep(4);
    }
}

static bool lab_ball_start(struct lab_ball *ball, struct lab_player players[2], unsigned cpu)
{
    unsigned other = cpumask_next(&cpu_online_mask, cpu + 1);

    for (unsigned side = 0; side < 2; side++) {
        init_waitqueue_head(&ball->queues[side], "lab ping");
        players[side] = (struct lab_player){.ball = ball, .side = side};
    }
    for (unsigned side = 0; side < 2; side++) {
        unsigned where = side == 0 ? cpu : other < MAX_CPUS ? other : 0;

        ball->threads[side] =
            kthread_run_on(where, lab_player_run, &players[side], "player/%u", where);
        if (ball->threads[side] == NULL) {
            return false;
        }
    }
    return true;
}

static int lab_ping_run(struct shell *sh, struct lab_ball *balls, struct lab_player (*players)[2],
                        unsigned count, uint32_t throws)
{
    uint64_t thrown = 0;
    unsigned lost;

    for (unsigned i = 0; i < count; i++) {
        balls[i].wanted = throws / count;
        if (!lab_ball_start(&balls[i], players[i], i)) {
            return shell_error(sh, "no memory for a thread");
        }
    }
    lost = lab_ping_wait(sh, balls, count);
    for (unsigned i = 0; i < count; i++) {
        thrown += balls[i].throws;
        WRITE_ONCE(balls[i].wanted, 0); // who still waits is woken by hand
        wake_up_all(&balls[i].queues[0]);
        wake_up_all(&balls[i].queues[1]);
        thread_join(balls[i].threads[0]);
        thread_join(balls[i].threads[1]);
    }
    shell_printf(sh, "%llu wake-ups between %u pairs of threads; lost %u\n",
                 (unsigned long long)thrown, count, lost);
    return lost != 0;
}

static int lab_ping(struct shell *sh, int argc, char **argv)
{
    unsigned count = cpumask_weight(&cpu_online_mask); // a pair for each CPU and its neighbour
    uint32_t throws;
    int status = lab_sched_parse(sh, argc, argv, &throws);

    if (status != 0) {
        return status;
    }
    struct lab_ball *balls = kcalloc(count, sizeof(*balls), GFP_KERNEL);
    struct lab_player(*players)[2] = kcalloc(count, sizeof(*players), GFP_KERNEL);
    status = balls != NULL && players != NULL ? lab_ping_run(sh, balls, players, count, throws)
                                              : shell_error(sh, "no memory");
    kfree(players);
    kfree(balls);
    return status;
}

LAB("ping", lab_ping, "[WAKE-UPS]", "pairs of threads wake each other: no wake-up is lost");
