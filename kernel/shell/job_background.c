// Jobs in the background: lists that a thread of their own runs, while the next line is typed.
//
//   `a && b &` ──> [1] started ... running ──> ended: told before the next prompt, then forgotten
//                                     └─ wait %1, stop %1
//
// The parse is copied, as the line that it points into is the caller's. A job that has ended is
// kept until somebody was told of it.
//
// Context: thread. Previous: job.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include "console.h"
#include "job_internal.h"

enum { JOB_MAX_BACKGROUND = 16 };

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

static DEFINE_MUTEX(job_background_mutex);
static LIST_HEAD(job_background); // L

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

static bool job_is_over(const struct background_job *b)
{
    return !b->running && b->waiters == 0;
}

// Forgets jobs that have ended and nobody waits for: those that were told of, and where more than
// `keep` were not, the oldest of these. Called under the mutex.
static void job_reap_locked(unsigned keep)
{
    unsigned news = 0;
    struct background_job *b, *next;
    list_for_each_entry (b, &job_background, link) {
        news += job_is_over(b) && !b->reported;
    }
    list_for_each_entry_safe (b, next, &job_background, link) {
        if (job_is_over(b) && (b->reported || news > keep)) {
            news -= !b->reported;
            list_del(&b->link);
            kfree(b->parse);
            kfree(b);
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

int job_start_background(const struct parse *parse, unsigned first, unsigned last)
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
