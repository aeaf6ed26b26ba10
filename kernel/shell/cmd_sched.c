// ps and uptime: what runs, and for how long the machine has.
//
// Context: each runs in a thread of its own.
#include <lib/format.h>
#include <lib/string.h>
#include <contract/command.h>
#include <core/clock.h>
#include <x86/clock.h>
#include <mm/slab.h>
#include <sched/thread.h>

// ---- ps ----------------------------------------------------------------------------------------

// What ps prints of a thread, copied while it cannot go away: printing may sleep.
struct ps_row {
    int tid;
    unsigned cpu;
    enum sched_policy policy;
    unsigned rt_priority;
    int nice;
    char state;
    uint64_t runtime_ns;
    uint64_t switches;
    const char *wait_channel;
    char name[16];
};

struct ps_table {
    unsigned room, count; // count may be larger: threads that found no room
    struct ps_row rows[];
};

static char ps_state(const struct thread *thread)
{
    static const char letters[] = {'R', 'S', 'D', 'I', 'Z'};

    if (thread->state != THREAD_DEAD && thread->on_queue) {
        return 'R'; // it may be about to sleep, but is still runnable
    }
    return letters[thread->state];
}

static void ps_copy(struct thread *thread, void *arg)
{
    struct ps_table *table = arg;
    struct ps_row *row;

    if (thread->tid == 0 || table->count++ >= table->room) {
        return;
    }
    row = &table->rows[table->count - 1];
    row->tid = thread->tid;
    row->cpu = thread->cpu;
    row->policy = thread->policy;
    row->rt_priority = thread->rt_priority;
    row->nice = thread->nice;
    row->state = ps_state(thread);
    row->runtime_ns = clock_tsc_to_ns(thread->runtime);
    row->switches = thread->switches;
    row->wait_channel = row->state == 'R' ? NULL : thread->wait_channel;
    strscpy(row->name, thread->name, sizeof(row->name));
}

// A copy of the table of threads; NULL when there is no memory. Threads may be born while we look
// how many there are, so there is room for some more, and if that was not enough we look again.
static struct ps_table *ps_take(void)
{
    for (unsigned room = 64;;) {
        struct ps_table *table =
            kmalloc(sizeof(*table) + room * sizeof(table->rows[0]), GFP_KERNEL);

        if (table == NULL) {
            return NULL;
        }
        table->room = room;
        table->count = 0;
        thread_for_each(ps_copy, table);
        if (table->count <= room) {
            return table;
        }
        room = table->count + 16;
        kfree(table);
    }
}

static const char *ps_class(enum sched_policy policy)
{
    switch (policy) {
    case SCHED_FIFO:
        return "FF";
    case SCHED_RR:
        return "RR";
    case SCHED_IDLE:
        return "IDL";
    default:
        return "TS";
    }
}

static void ps_print(struct shell *sh, const struct ps_row *row)
{
    char priority[8] = "-", nice[8] = "-";

    if (row->rt_priority != 0) {
        snprintf(priority, sizeof(priority), "%u", row->rt_priority);
    } else {
        snprintf(nice, sizeof(nice), "%d", row->nice);
    }
    shell_printf(sh, "%5d %3u %-3s %5s %3s %c %5llu.%03llu %8llu %-16s %s\n", row->tid, row->cpu,
                 ps_class(row->policy), priority, nice, row->state,
                 (unsigned long long)(row->runtime_ns / 1000000000),
                 (unsigned long long)(row->runtime_ns / 1000000 % 1000),
                 (unsigned long long)row->switches,
                 row->wait_channel != NULL ? row->wait_channel : "-", row->name);
}

static int cmd_ps(struct shell *sh, int argc, char **argv)
{
    struct ps_table *table;

    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments: all threads are shown");
    }
    table = ps_take();
    if (table == NULL) {
        return shell_error(sh, "no memory for the list");
    }
    shell_printf(sh, "  PID CPU CLS RTPRI  NI S      TIME SWITCHES %-16s COMMAND\n", "WCHAN");
    for (unsigned i = 0; i < table->count && !shell_interrupted(sh); i++) {
        ps_print(sh, &table->rows[i]);
    }
    kfree(table);
    return 0;
}

COMMAND("ps", cmd_ps, "ps",
        "shows all threads: CPU, scheduling class, state, run time\n"
        "  CLS    TS ordinary, FF and RR realtime, IDL idle\n"
        "  S      R runs or could, S sleeps until woken or interrupted, D until woken, I the same\n"
        "         without being a load, Z has ended\n"
        "  TIME   seconds on a CPU\n"
        "  WCHAN  what it waits for");

// ---- uptime ------------------------------------------------------------------------------------

static void uptime_print_since(struct shell *sh, uint64_t seconds)
{
    unsigned days = (unsigned)(seconds / 86400);
    unsigned hours = (unsigned)(seconds / 3600 % 24), minutes = (unsigned)(seconds / 60 % 60);

    if (days != 0) {
        shell_printf(sh, "%u day%s, ", days, days == 1 ? "" : "s");
    }
    if (hours != 0) {
        shell_printf(sh, "%2u:%02u", hours, minutes);
    } else {
        shell_printf(sh, "%u min", minutes);
    }
}

static int cmd_uptime(struct shell *sh, int argc, char **argv)
{
    uint64_t now = clock_rtc_seconds();
    unsigned load[3];

    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    shell_printf(sh, " %02u:%02u:%02u up ", (unsigned)(now / 3600 % 24), (unsigned)(now / 60 % 60),
                 (unsigned)(now % 60));
    uptime_print_since(sh, clock_ns() / 1000000000);
    sched_load(load);
    shell_printf(sh, ",  load average: %u.%02u, %u.%02u, %u.%02u\n", load[0] / 100, load[0] % 100,
                 load[1] / 100, load[1] % 100, load[2] / 100, load[2] % 100);
    return 0;
}

COMMAND("uptime", cmd_uptime, "uptime",
        "says the time, how long the machine has run, and its load");
