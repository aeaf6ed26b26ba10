// Processes: a program in ring 3, the thread that runs it, the address space that it runs in.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>
#include <x86/exception.h>
#include <x86/frame.h>
#include <sched/thread.h>
#include <user/program.h>

struct process;
struct thread;

// The signals that end a process, with Linux's numbers. There are no handlers: each one ends it.
#define SIGINT  2
#define SIGILL  4
#define SIGTRAP 5
#define SIGBUS  7
#define SIGFPE  8
#define SIGSEGV 11

// What its descriptors 0, 1 and 2 lead to, handed down by whoever starts it. Both may sleep, and
// return -EINTR when the process is to end. Called by the process's own thread.
struct process_io {
    long (*read)(void *arg, void *to, size_t size);                 // bytes, 0 at the end, -errno
    int (*write)(void *arg, int fd, const void *from, size_t size); // 0 or -errno
    void *arg;
};

// Starts a program with arguments; argv[0] is its name. *io stays the caller's and must live until
// process_end. 0, -ENOMEM, -E2BIG (arguments), -ENOEXEC. Context: thread.
int process_start(const struct program *program, int argc, char *const argv[],
                  const struct process_io *io, struct process **process);
// Sleeps until it has ended; 0 or -EINTR (of the caller). Context: thread.
int process_wait(struct process *process);
// It ends at its next way back into ring 3, within a tick. Context: thread.
void process_kill(struct process *process);
// Waits for the end, forgets the process and returns the signal that ended it, 0 for none; then
// *status (0..255) is what it gave to exit. Context: thread.
int process_end(struct process *process, int *status);
// Valid until process_end. Context: any.
struct thread *process_thread(struct process *process);

// "Segmentation fault" and so on; NULL for those that a shell says nothing of.
const char *process_signal_text(int signal);

// A system call; the result is in frame->rax afterwards. Context: interrupts off, on the stack of
// rsp0.
void syscall(struct frame *frame);
// On the way back into ring 3: ends the running process if that was asked for. Context: interrupts
// off, nothing held.
void process_end_wanted(void);
static inline void process_return(void)
{
    const struct thread *thread = current;

    if (unlikely(__atomic_load_n(&thread->interrupted, __ATOMIC_RELAXED) ||
                 __atomic_load_n(&thread->stop_wanted, __ATOMIC_RELAXED))) {
        process_end_wanted();
    }
}
// For exception_user.
bool process_exception(const struct exception_record *record, struct frame *frame);
// Ends the running process, on its own thread. Context: thread.
__noreturn void process_exit(int signal, int status);
