// From a parsed line to threads that run.
//
//   a | b > /tmp/x && c &
//
// `a` and `b` are tasks of one pipeline: each a thread of its own, joined by a pipe, running at the
// same time. `a | b && c` is a list; behind it stands '&', so the list is run by a thread in the
// background; otherwise by whoever called job_run_line.
//
//   job ── tasks[] of the pipeline that runs now ── thread, argv, streams
//
// ^C comes in softirq context, to job_interrupt_foreground: every thread of every job in the
// foreground is interrupted, and the job is marked, so that nothing further of it is started. A
// task's thread pointer is valid while it stands in the job: it is put there and taken away under
// the job's lock, and the thread is joined (freed) only afterwards.
//
// Context: thread, except job_interrupt_foreground. Previous: shell.c. Next: job_task.c,
// job_background.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/slab.h>
#include <dev/tty.h>
#include "console.h"
#include "job_internal.h"

LINKER_SET(command, command);

static DEFINE_SPINLOCK(job_foreground_lock);
static LIST_HEAD(
    job_foreground); // L: newest first; more than one when a test runs a line inside a command
static int job_last_status; // $? of the foreground

const struct command *shell_find_command(const char *name)
{
    return set_find_by_name(command, name);
}

// ---- interruption -------------------------------------------------------------------------------

void job_interrupt(struct job *job)
{
    unsigned long flags;
    spin_lock_irqsave(&job->lock, flags);
    WRITE_ONCE(job->interrupted, true);
    for (unsigned i = 0; i < job->task_count; i++) {
        if (job->tasks[i] && job->tasks[i]->thread) {
            thread_interrupt(job->tasks[i]->thread);
        }
    }
    if (job->opener) {
        thread_interrupt(job->opener);
    }
    spin_unlock_irqrestore(&job->lock, flags);
}

bool job_interrupt_foreground(bool only_newest)
{
    unsigned long flags;
    spin_lock_irqsave(&job_foreground_lock, flags);
    bool any = !list_empty(&job_foreground);
    struct job *job;
    list_for_each_entry (job, &job_foreground, link) {
        job_interrupt(job);
        if (only_newest) {
            break;
        }
    }
    spin_unlock_irqrestore(&job_foreground_lock, flags);
    return any;
}

static void job_enter_foreground(struct job *job)
{
    unsigned long flags;
    spin_lock_irqsave(&job_foreground_lock, flags);
    list_add(&job->link, &job_foreground);
    spin_unlock_irqrestore(&job_foreground_lock, flags);
    if (tty_take_interrupt()) {
        job_interrupt(job); // typed after the line's end, before it could run
    }
}

static void job_leave_foreground(struct job *job)
{
    unsigned long flags;
    spin_lock_irqsave(&job_foreground_lock, flags);
    list_del(&job->link);
    spin_unlock_irqrestore(&job_foreground_lock, flags);
}

// ---- one pipeline -------------------------------------------------------------------------------

// "NAME=value" alone sets a variable; before a command it would have to be undone afterwards, and
// is refused.
static bool job_is_assignment(const char *word)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word || (word[0] >= '0' && word[0] <= '9')) {
        return false;
    }
    for (const char *c = word; c < equals; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '_')) {
            return false;
        }
    }
    return true;
}

static int job_assign(struct job_task *task)
{
    for (int i = 0; i < task->sh.argc; i++) {
        char *word = task->argv[i];
        if (!job_is_assignment(word)) {
            console_printf("sh: %.100s: set variables on a line of their own, before the command\n",
                           task->argv[0]);
            return STATUS_USAGE;
        }
        char *equals = strchr(word, '=');
        *equals = '\0';
        int error = shell_set_variable(word, equals + 1);
        if (error != 0) {
            console_printf("sh: %.32s=%.100s: %s\n", word, equals + 1, strerror(error));
            return STATUS_FAILED;
        }
    }
    return 0;
}

// Words, files and pipes of every task. 0, or a status when nothing is to be started.
static int job_prepare(struct job *job, struct job_task **tasks, const struct parse *parse,
                       const struct parse_pipeline *pipeline, int status)
{
    for (unsigned i = 0; i < pipeline->command_count; i++) {
        tasks[i] = job_task_make(job);
        if (!tasks[i] || (i > 0 && stream_make_pipe(&tasks[i]->in, &tasks[i - 1]->out) != 0)) {
            console_printf("sh: no memory for a command\n");
            return STATUS_FAILED;
        }
    }
    for (unsigned i = 0; i < pipeline->command_count; i++) {
        const struct parse_command *c = &parse->commands[pipeline->first_command + i];
        struct job_task *task = tasks[i];
        if (job_task_fill(task, parse, c, status) != 0) {
            return STATUS_FAILED;
        }
        task->command = task->sh.argc != 0 ? shell_find_command(task->argv[0]) : NULL;
    }
    return 0;
}

static void job_set_tasks(struct job *job, struct job_task **tasks, unsigned count)
{
    unsigned long flags;
    spin_lock_irqsave(&job->lock, flags);
    job->tasks = tasks;
    job->task_count = count;
    spin_unlock_irqrestore(&job->lock, flags);
}

static int job_run_pipeline(struct job *job, const struct parse *parse,
                            const struct parse_pipeline *pipeline, int status)
{
    unsigned count = pipeline->command_count;
    struct job_task **tasks = kcalloc(count, sizeof(struct job_task *), GFP_KERNEL);
    if (!tasks) {
        console_printf("sh: no memory for a command\n");
        return STATUS_FAILED;
    }
    int result = job_prepare(job, tasks, parse, pipeline, status);
    if (result == 0 && count == 1 && tasks[0]->sh.argc != 0 &&
        job_is_assignment(tasks[0]->argv[0])) {
        result = job_assign(tasks[0]);
    } else if (result == 0) {
        job_set_tasks(job, tasks, count);
        for (unsigned i = 0; i < count; i++) {
            job_task_start(tasks[i]);
        }
        for (unsigned i = 0; i < count; i++) {
            job_task_wait(tasks[i]);
        }
        job_set_tasks(job, NULL, 0);
        result = READ_ONCE(job->interrupted) ? STATUS_INTERRUPTED : tasks[count - 1]->status;
    }
    for (unsigned i = 0; i < count; i++) {
        job_task_free(tasks[i]);
    }
    kfree(tasks);
    return result;
}

int job_run_list(struct job *job, const struct parse *parse, unsigned first, unsigned last,
                 int status)
{
    for (unsigned i = first; i < last && !READ_ONCE(job->interrupted); i++) {
        enum parse_join before = i > first ? parse->pipelines[i - 1].join : JOIN_SEQUENCE;
        if ((before == JOIN_AND && status != 0) || (before == JOIN_OR && status == 0)) {
            continue;
        }
        status = job_run_pipeline(job, parse, &parse->pipelines[i], status);
    }
    return READ_ONCE(job->interrupted) ? STATUS_INTERRUPTED : status;
}

// ---- a line -------------------------------------------------------------------------------------

// Runs the lists of the line one after the other.
static int job_run_parsed(const struct parse *parse, int status)
{
    struct job job = {.lock = SPINLOCK_INIT("job")};
    job_enter_foreground(&job);
    for (unsigned first = 0; first < parse->pipeline_count && !READ_ONCE(job.interrupted);) {
        unsigned last = first + 1;
        while (parse->pipelines[last - 1].join == JOIN_AND ||
               parse->pipelines[last - 1].join == JOIN_OR) {
            last++;
        }
        if (parse->pipelines[last - 1].join == JOIN_BACKGROUND) {
            status = job_start_background(parse, first, last);
        } else {
            status = job_run_list(&job, parse, first, last, status);
        }
        first = last;
    }
    job_leave_foreground(&job);
    return READ_ONCE(job.interrupted) ? STATUS_INTERRUPTED : status;
}

int job_run_line(const char *line)
{
    struct parse *parse = kmalloc(sizeof(*parse), GFP_KERNEL);
    if (!parse) {
        console_printf("sh: no memory to read the line\n");
        return STATUS_FAILED;
    }
    int status = job_last_status;
    if (parse_line(line, parse) != 0) {
        console_printf("sh: %s (at character %u), nothing was run\n", parse->error,
                       parse->error_at + 1);
        status = STATUS_USAGE;
    } else if (parse->pipeline_count != 0) {
        status = job_run_parsed(parse, status);
    }
    job_last_status = status;
    kfree(parse);
    return status;
}
