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
// Context: thread, except job_interrupt_foreground.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/list.h>
#include <lib/string.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <sched/thread.h>
#include <dev/tty.h>
#include "console.h"
#include "job.h"
#include "parse.h"
#include "stream.h"

enum { JOB_ARGUMENTS = 4096, JOB_MAX_BACKGROUND = 16 };

LINKER_SET(command, command);

struct job;

struct job_task {
    struct shell sh; // what the command sees
    struct shell_stream in, out, err;
    struct job *job;
    const struct command *command; // NULL: there is none of this name
    struct thread *thread;         // L of the job; NULL: not running
    struct completion done;
    int status;
    char *argv[PARSE_MAX_WORDS + 1];
    char arguments[JOB_ARGUMENTS];
};

struct job {
    struct spinlock lock;
    struct job_task **tasks; // L: of the pipeline that runs now
    unsigned task_count;     // L
    bool interrupted;        // A
    bool background;         // I
    struct list_head link;   // of the foreground's jobs
};

struct background_job {
    struct job job;
    int id;
    bool running; // L of the mutex
    bool reported;
    int status;
    unsigned waiters; // L
    struct completion done;
    struct list_head link; // L
    struct parse *parse;
    unsigned first, last;
    char line[PARSE_MAX_LINE + 1];
    char text[64]; // I: the line for people: its beginning, printable
};

static DEFINE_SPINLOCK(job_foreground_lock);
static LIST_HEAD(
    job_foreground); // L: newest first; more than one when a test runs a line inside a command
static int job_last_status; // $? of the foreground

static DEFINE_MUTEX(job_background_mutex);
static LIST_HEAD(job_background); // L

const struct command *shell_find_command(const char *name)
{
    const struct command *command;
    set_for_each (command, command) {
        if (strcmp(command->name, name) == 0) {
            return command;
        }
    }
    return NULL;
}

// ---- interruption -------------------------------------------------------------------------------

static void job_interrupt(struct job *job)
{
    unsigned long flags;
    spin_lock_irqsave(&job->lock, flags);
    WRITE_ONCE(job->interrupted, true);
    for (unsigned i = 0; i < job->task_count; i++) {
        if (job->tasks[i] && job->tasks[i]->thread) {
            thread_interrupt(job->tasks[i]->thread);
        }
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

bool shell_interrupted(struct shell *sh)
{
    const struct job_task *task = container_of(sh, struct job_task, sh);
    return thread_interrupted() || READ_ONCE(task->job->interrupted) || task->out.broken;
}

// ---- one task -----------------------------------------------------------------------------------

static const char *job_value(const char *name, void *arg)
{
    static char value[256]; // used at once by parse_expand, under job_expand's mutex
    (void)arg;
    return shell_get_variable(name, value, sizeof(value));
}

static long job_expand(const struct parse *parse, unsigned word, int status, char *to, size_t size,
                       bool *vanished)
{
    static DEFINE_MUTEX(mutex);
    const struct parse_values values = {.get = job_value, .status = status};
    mutex_lock(&mutex);
    long length = parse_expand(parse, word, &values, to, size, vanished);
    mutex_unlock(&mutex);
    return length;
}

static int job_expand_words(struct job_task *task, const struct parse *parse,
                            const struct parse_command *c, int status)
{
    size_t at = 0;
    for (unsigned i = 0; i < c->word_count; i++) {
        bool vanished;
        long length = job_expand(parse, c->first_word + i, status, task->arguments + at,
                                 sizeof(task->arguments) - at, &vanished);
        if (length < 0) {
            console_printf("sh: arguments too long: at most %d bytes for a command\n",
                           JOB_ARGUMENTS);
            return (int)length;
        }
        if (!vanished) {
            task->argv[task->sh.argc++] = task->arguments + at;
            at += (size_t)length + 1;
        }
    }
    task->sh.argv = task->argv;
    return 0;
}

static int job_open(struct shell_stream *stream, const char *path, unsigned flags)
{
    struct file *file;
    int error = vfs_open(path, flags, &file);
    if (error != 0) {
        console_printf("sh: %.200s: %s\n", path, strerror(error));
        return error;
    }
    *stream = (struct shell_stream){.kind = STREAM_FILE, .file = file};
    return 0;
}

static int job_redirect(struct job_task *task, const struct parse *parse,
                        const struct parse_command *c, int status)
{
    char path[PATH_MAX_LENGTH];
    bool vanished;
    for (int out = 0; out < 2; out++) {
        int word = out ? c->out : c->in;
        if (word < 0) {
            continue;
        }
        long length = job_expand(parse, (unsigned)word, status, path, sizeof(path), &vanished);
        if (length <= 0) {
            console_printf("sh: the name of a file is %s\n", length < 0 ? "too long" : "empty");
            return -EINVAL;
        }
        unsigned flags =
            !out ? OPEN_READ : OPEN_WRITE | OPEN_CREATE | (c->append ? OPEN_APPEND : OPEN_TRUNCATE);
        struct shell_stream *stream = out ? &task->out : &task->in;
        if (out) {
            stream_close_write(stream); // a pipe that was there: its reader sees the end
        } else {
            stream_close_read(stream);
        }
        int error = job_open(stream, path, flags);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

static void job_task_run(void *arg)
{
    struct job_task *task = arg;
    int status = task->command->run(&task->sh, task->sh.argc, task->sh.argv);
    if (task->out.error != 0) {
        status = shell_error(&task->sh, "write: %s", strerror(task->out.error));
    }
    task->status = thread_interrupted() || READ_ONCE(task->job->interrupted) ? STATUS_INTERRUPTED
                                                                             : status & 0xff;
    stream_close_read(&task->in);
    stream_close_write(&task->out);
    complete(&task->done);
}

// Starts the task's thread, or says why not and leaves it done.
static void job_task_start(struct job_task *task)
{
    struct job *job = task->job;
    const char *name = task->sh.argc != 0 ? task->argv[0] : "";
    if (task->sh.argc != 0 && !task->command) {
        console_printf("%.200s: not found (try help)\n", name);
        task->status = STATUS_NOT_FOUND;
    } else if (task->command && !READ_ONCE(job->interrupted)) {
        struct thread *thread = kthread_run(job_task_run, task, "%s", name);
        if (thread) {
            unsigned long flags;
            spin_lock_irqsave(&job->lock, flags);
            task->thread = thread;
            if (job->interrupted) {
                thread_interrupt(thread);
            }
            spin_unlock_irqrestore(&job->lock, flags);
            return;
        }
        console_printf("sh: %.100s: no memory for a thread, try again when something has ended\n",
                       name);
        task->status = STATUS_FAILED;
    }
    stream_close_read(&task->in);
    stream_close_write(&task->out);
    complete(&task->done);
}

static void job_task_wait(struct job_task *task)
{
    struct job *job = task->job;
    wait_for_completion_state(&task->done, THREAD_IDLE);
    unsigned long flags;
    spin_lock_irqsave(&job->lock, flags);
    struct thread *thread = task->thread;
    task->thread = NULL;
    spin_unlock_irqrestore(&job->lock, flags);
    if (thread) {
        thread_join(thread);
    }
}

// ---- one pipeline -------------------------------------------------------------------------------

static struct job_task *job_task_make(struct job *job)
{
    struct job_task *task = kzalloc(sizeof(*task), GFP_KERNEL);
    if (task) {
        task->job = job;
        task->in.kind = job->background ? STREAM_NOTHING : STREAM_CONSOLE;
        task->out.kind = STREAM_CONSOLE;
        task->err.kind = STREAM_CONSOLE;
        task->sh.in = &task->in;
        task->sh.out = &task->out;
        task->sh.err = &task->err;
        init_completion(&task->done);
    }
    return task;
}

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
        if (job_expand_words(task, parse, c, status) != 0 ||
            job_redirect(task, parse, c, status) != 0) {
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
        if (tasks[i]) {
            stream_close_read(&tasks[i]->in);
            stream_close_write(&tasks[i]->out);
            kfree(tasks[i]);
        }
    }
    kfree(tasks);
    return result;
}

// Pipelines [first, last) of the parse, joined by && and ||.
static int job_run_list(struct job *job, const struct parse *parse, unsigned first, unsigned last,
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

// ---- the background -----------------------------------------------------------------------------

static struct background_job *job_find_background(int id)
{
    struct background_job *b;
    list_for_each_entry (b, &job_background, link) {
        if (b->id == id) {
            return b;
        }
    }
    return NULL;
}

static void job_background_run(void *arg)
{
    struct background_job *b = arg;
    int status = job_run_list(&b->job, b->parse, b->first, b->last, 0);
    mutex_lock(&job_background_mutex);
    b->status = status;
    b->running = false;
    complete_all(&b->done); // under the mutex: after it the job may be forgotten, and freed
    mutex_unlock(&job_background_mutex);
}

// Forgets jobs that have ended and nobody waits for; the newest are kept until there is no room.
// Called under the mutex.
static void job_reap_locked(unsigned keep)
{
    unsigned count = 0;
    struct background_job *b, *next;
    list_for_each_entry_safe (b, next, &job_background, link) {
        count++;
        if (!b->running && b->waiters == 0 && (b->reported || count > keep)) {
            list_del(&b->link);
            kfree(b->parse);
            kfree(b);
            count--;
        }
    }
}

static int job_new_id_locked(void)
{
    int id = 1;
    while (job_find_background(id)) {
        id++;
    }
    return id;
}

static struct background_job *job_make_background(const struct parse *parse, unsigned first,
                                                  unsigned last)
{
    struct background_job *b = kzalloc(sizeof(*b), GFP_KERNEL);
    struct parse *copy = kmalloc(sizeof(*copy), GFP_KERNEL);
    if (!b || !copy) {
        kfree(b);
        kfree(copy);
        return NULL;
    }
    *copy = *parse;
    strscpy(b->line, parse->line, sizeof(b->line));
    strscpy(b->text, parse->line, sizeof(b->text));
    for (char *c = b->text; *c != '\0'; c++) {
        *c = *c >= ' ' && *c <= '~' ? *c : '?';
    }
    copy->line = b->line;
    b->parse = copy;
    b->first = first;
    b->last = last;
    b->job.background = true;
    spin_lock_init(&b->job.lock, "job");
    init_completion(&b->done);
    return b;
}

static int job_start_background(const struct parse *parse, unsigned first, unsigned last)
{
    struct background_job *b = job_make_background(parse, first, last);
    if (!b) {
        console_printf("sh: no memory for a job\n");
        return STATUS_FAILED;
    }
    mutex_lock(&job_background_mutex);
    job_reap_locked(JOB_MAX_BACKGROUND / 2);
    b->id = job_new_id_locked();
    int id = b->id;
    b->running = true;
    struct thread *thread =
        id <= JOB_MAX_BACKGROUND ? kthread_run(job_background_run, b, "job/%d", id) : NULL;
    if (thread) {
        list_add_tail(&b->link, &job_background);
        thread_put(thread); // nobody joins it: its end is b->done
    }
    mutex_unlock(&job_background_mutex);
    if (!thread) {
        console_printf("sh: cannot start a job: at most %d run at a time\n", JOB_MAX_BACKGROUND);
        kfree(b->parse);
        kfree(b);
        return STATUS_FAILED;
    }
    console_printf("[%d] started\n", id);
    return 0;
}

void job_for_each(bool only_news,
                  void (*visit)(int id, bool running, int status, const char *text, void *arg),
                  void *arg)
{
    mutex_lock(&job_background_mutex);
    struct background_job *b;
    list_for_each_entry (b, &job_background, link) {
        if (!only_news || (!b->running && !b->reported)) {
            visit(b->id, b->running, b->status, b->text, arg);
            b->reported = !b->running;
        }
    }
    mutex_unlock(&job_background_mutex);
}

static int job_wait_one(struct background_job *b)
{
    b->waiters++;
    mutex_unlock(&job_background_mutex);
    int result = wait_for_completion_interruptible(&b->done);
    mutex_lock(&job_background_mutex);
    b->waiters--;
    b->reported = b->reported || result == 0;
    return result == 0 ? b->status : result;
}

int job_wait(int id)
{
    int result = id == 0 ? 0 : -ENOENT;
    mutex_lock(&job_background_mutex);
    struct background_job *b;
    bool again = true;
    while (again) {
        again = false;
        list_for_each_entry (b, &job_background, link) {
            if ((id == 0 && b->running) || b->id == id) {
                result = job_wait_one(b);
                again = id == 0 && result >= 0; // the list may have changed meanwhile
                break;
            }
        }
    }
    list_for_each_entry (b, &job_background, link) {
        b->reported = b->reported || (id == 0 && !b->running); // waited for, though it was over
    }
    mutex_unlock(&job_background_mutex);
    return id == 0 && result >= 0 ? 0 : result;
}

int job_kill(int id)
{
    mutex_lock(&job_background_mutex);
    struct background_job *b = job_find_background(id);
    bool running = b && b->running;
    if (running) {
        job_interrupt(&b->job);
    }
    mutex_unlock(&job_background_mutex);
    return running ? 0 : -ENOENT;
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
