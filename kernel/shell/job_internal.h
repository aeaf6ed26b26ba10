// What the files of the jobs know of each other: job.c (lines, lists and pipelines), job_task.c
// (one command of them), job_background.c (what goes on by itself).
#pragma once

#include <core/spinlock.h>
#include <lib/list.h>
#include <sched/completion.h>
#include <sched/thread.h>

#include "job.h"
#include "parse.h"
#include "stream.h"

enum { JOB_ARGUMENTS = 4096 }; // bytes, of one command

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
    struct thread *opener;   // L: who opens files for it just now, which may take its time; NULL
    bool interrupted;        // A
    bool background;         // I
    struct list_head link;   // of the foreground's jobs
};

// ---- job.c --------------------------------------------------------------------------------------

// ^C for this job alone. Context: any but NMI.
void job_interrupt(struct job *job);
// Pipelines [first, last) of the parse, joined by && and ||; `status` is $?. The status.
int job_run_list(struct job *job, const struct parse *parse, unsigned first, unsigned last,
                 int status);

// ---- job_task.c ---------------------------------------------------------------------------------

// From and to the console, a background job's from nowhere. NULL: no memory.
struct job_task *job_task_make(struct job *job);
// Its words and files, by the parse. 0, or -errno after a message.
int job_task_fill(struct job_task *task, const struct parse *parse, const struct parse_command *c,
                  int status);
// Starts its thread, or says why not and leaves it done.
void job_task_start(struct job_task *task);
void job_task_wait(struct job_task *task);
// It does not run; NULL is fine.
void job_task_free(struct job_task *task);

// ---- job_background.c ---------------------------------------------------------------------------

// The list, run by a thread of its own. 0, or a status after a message.
int job_start_background(const struct parse *parse, unsigned first, unsigned last);
