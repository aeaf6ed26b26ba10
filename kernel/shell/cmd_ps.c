// ps: what runs, what waits, and for what. A table of columns, as `ps -o` of Linux names them.
//
// Context: a thread of its own.
#include <lib/format.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <mm/slab.h>
#include <sched/info.h>

// A column: what `-o` calls it, its title, its width (below 0: set left), and its text.
struct ps_column {
    const char *name, *title;
    int width;
    void (*cell)(struct text *t, const struct thread_info *info);
};

static void ps_pid(struct text *t, const struct thread_info *info)
{
    text_printf(t, "%d", info->tid);
}

static void ps_class(struct text *t, const struct thread_info *info)
{
    text_puts(t, info->policy == SCHED_FIFO   ? "FF"
                 : info->policy == SCHED_RR   ? "RR"
                 : info->policy == SCHED_IDLE ? "IDL"
                                              : "TS");
}

static void ps_rtprio(struct text *t, const struct thread_info *info)
{
    if (info->rt_priority != 0) {
        text_printf(t, "%u", info->rt_priority);
    } else {
        text_putc(t, '-');
    }
}

// As procps: higher is better, 19 is nice 0, 41 to 139 are realtime. What is borrowed shows here.
static void ps_pri(struct text *t, const struct thread_info *info)
{
    text_printf(t, "%d", 139 - thread_info_prio(info));
}

static void ps_nice(struct text *t, const struct thread_info *info)
{
    if (info->rt_priority == 0) {
        text_printf(t, "%d", info->nice);
    } else {
        text_putc(t, '-');
    }
}

static void ps_cpu(struct text *t, const struct thread_info *info)
{
    text_printf(t, "%u", info->cpu);
}

static void ps_stat(struct text *t, const struct thread_info *info)
{
    text_putc(t, info->state);
    if (info->rt_priority == 0 && info->nice != 0) {
        text_putc(t, info->nice < 0 ? '<' : 'N');
    }
}

static void ps_time(struct text *t, const struct thread_info *info)
{
    unsigned long long seconds = info->runtime_ns / 1000000000;

    if (seconds >= 86400) {
        text_printf(t, "%llu-", seconds / 86400);
    }
    text_printf(t, "%02llu:%02llu:%02llu", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
}

static void ps_runtime(struct text *t, const struct thread_info *info)
{
    text_printf(t, "%llu.%06llu", (unsigned long long)(info->runtime_ns / 1000000000),
                (unsigned long long)(info->runtime_ns / 1000 % 1000000));
}

static void ps_switches(struct text *t, const struct thread_info *info)
{
    text_printf(t, "%llu", (unsigned long long)info->switches);
}

static void ps_wchan(struct text *t, const struct thread_info *info)
{
    text_puts(t, info->wait_channel != NULL ? info->wait_channel : "-");
}

static void ps_comm(struct text *t, const struct thread_info *info)
{
    text_puts(t, info->name);
}

static const struct ps_column ps_columns[] = {
    {"pid", "PID", 5, ps_pid},
    {"cls", "CLS", 3, ps_class},
    {"rtprio", "RTPRIO", 6, ps_rtprio},
    {"pri", "PRI", 3, ps_pri},
    {"ni", "NI", 3, ps_nice},
    {"psr", "PSR", 3, ps_cpu},
    {"stat", "STAT", -4, ps_stat},
    {"time", "TIME", 8, ps_time},
    {"runtime", "RUNTIME", 11, ps_runtime},
    {"nsw", "SWITCHES", 8, ps_switches},
    {"wchan", "WCHAN", -16, ps_wchan},
    {"comm", "COMMAND", -1, ps_comm},
};
#define PS_DEFAULT "pid,cls,rtprio,pri,ni,psr,stat,time,wchan,comm"
enum { PS_CELL_SIZE = 40 };

static const struct ps_column *ps_find_column(const char *name, size_t length)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ps_columns); i++) {
        if (strlen(ps_columns[i].name) == length && memcmp(ps_columns[i].name, name, length) == 0) {
            return &ps_columns[i];
        }
    }
    return NULL;
}

// One line: the titles when info is NULL.
static void ps_print(struct shell *sh, const char *names, const struct thread_info *info)
{
    while (*names != '\0') {
        size_t length = strcspn(names, ",");
        const struct ps_column *column = ps_find_column(names, length);
        char cell[PS_CELL_SIZE];
        struct text t = TEXT_INIT(cell);

        names += length + (names[length] == ',');
        if (info != NULL) {
            column->cell(&t, info);
        } else {
            text_puts(&t, column->title);
        }
        if (column->width < 0) { // the last column is not filled up
            shell_printf(sh, "%-*s", *names != '\0' ? -column->width : 0, cell);
        } else {
            shell_printf(sh, "%*s", column->width, cell);
        }
        shell_printf(sh, *names != '\0' ? " " : "\n");
    }
}

// The columns are known, and there is one.
static bool ps_check(struct shell *sh, const char *names)
{
    do {
        size_t length = strcspn(names, ",");

        if (ps_find_column(names, length) == NULL) {
            shell_error(sh, "%.*s: no such column (" PS_DEFAULT ",runtime,nsw)", (int)length,
                        names);
            return false;
        }
        names += length + (names[length] == ',');
    } while (*names != '\0');
    return true;
}

static int cmd_ps(struct shell *sh, int argc, char **argv)
{
    const char *names = PS_DEFAULT;
    struct thread_table *table;

    if (argc == 3 && strcmp(argv[1], "-o") == 0) {
        names = argv[2];
        if (!ps_check(sh, names)) {
            return 1;
        }
    } else if (argc != 1) {
        return shell_usage(sh, "all threads are shown; -o chooses the columns");
    }
    table = thread_table_copy();
    if (table == NULL) {
        return shell_error(sh, "no memory for the list");
    }
    ps_print(sh, names, NULL);
    for (unsigned i = 0; i < table->count && !shell_interrupted(sh); i++) {
        ps_print(sh, names, &table->rows[i]);
    }
    kfree(table);
    return 0;
}

COMMAND("ps", cmd_ps, "ps [-o COLUMN,...]",
        "shows all threads: class, priority, CPU, state, run time\n"
        "  CLS    TS ordinary, FF and RR realtime, IDL idle\n"
        "  PRI    higher is better: 19 at nice 0, above 40 realtime; with what it borrows\n"
        "  PSR    the CPU where it runs, or ran last\n"
        "  STAT   R runs or could, S sleeps until woken or interrupted, D until woken, I the same\n"
        "         without being a load, Z has ended; < and N: nice below and above 0\n"
        "  WCHAN  what it waits for\n"
        "Columns: " PS_DEFAULT ",\n"
        "runtime (seconds, exactly), nsw (how often it got the CPU)");
