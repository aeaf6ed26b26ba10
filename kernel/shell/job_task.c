// One command of a pipeline: its words, its files, its thread.
//
//   parse ──> words, variables put in ──> argv     < and > ──> streams     ──> thread: run ──> done
//
// A message here is on the console, not in the command's output: the command did not run.
//
// Context: thread. Previous: job.c. Next: stream.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <fs/vfs.h>
#include "console.h"
#include "job_internal.h"

// ---- words and files ----------------------------------------------------------------------------

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

// To open a disk may take long (a CD that spins up), and is done by whoever runs the line: ^C is
// his as long as it lasts, and no longer.
static int job_open_file(struct job *job, const char *path, unsigned flags, struct file **file)
{
    bool before = thread_interrupted();
    unsigned long irq_flags;
    spin_lock_irqsave(&job->lock, irq_flags);
    int error = job->interrupted ? -EINTR : 0;
    job->opener = current;
    spin_unlock_irqrestore(&job->lock, irq_flags);
    if (error == 0) {
        error = vfs_open(path, flags, file);
    }
    spin_lock_irqsave(&job->lock, irq_flags);
    job->opener = NULL;
    if (job->interrupted && !before) {
        thread_clear_interrupt();
    }
    spin_unlock_irqrestore(&job->lock, irq_flags);
    return error;
}

static int job_open(struct job *job, struct shell_stream *stream, const char *path, unsigned flags)
{
    struct file *file;
    int error = job_open_file(job, path, flags, &file);
    if (error != 0) {
        if (error != -EINTR) {
            console_printf("sh: %.200s: %s\n", path, strerror(error));
        }
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
        int error = job_open(task->job, stream, path, flags);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

int job_task_fill(struct job_task *task, const struct parse *parse, const struct parse_command *c,
                  int status)
{
    int error = job_expand_words(task, parse, c, status);
    return error != 0 ? error : job_redirect(task, parse, c, status);
}

// ---- its thread ---------------------------------------------------------------------------------

bool shell_interrupted(struct shell *sh)
{
    const struct job_task *task = container_of(sh, struct job_task, sh);
    return thread_interrupted() || READ_ONCE(task->job->interrupted) || task->out.broken;
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
    stream_close_write(&task->err);
    complete(&task->done);
}

void job_task_start(struct job_task *task)
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

void job_task_wait(struct job_task *task)
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

// ---- made, and gone -----------------------------------------------------------------------------

struct job_task *job_task_make(struct job *job)
{
    struct job_task *task = kzalloc(sizeof(*task), GFP_KERNEL);
    if (task) {
        task->job = job;
        task->in.kind = job->background ? STREAM_NOTHING : STREAM_CONSOLE;
        task->out.kind = STREAM_CONSOLE;
        task->err.kind = STREAM_CONSOLE;
        task->out.background = task->err.background = job->background;
        task->sh.in = &task->in;
        task->sh.out = &task->out;
        task->sh.err = &task->err;
        init_completion(&task->done);
    }
    return task;
}

void job_task_free(struct job_task *task)
{
    if (task) {
        stream_close_read(&task->in);
        stream_close_write(&task->out);
        kfree(task);
    }
}
