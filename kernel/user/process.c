// Processes: a program's life, from its ELF file to its end.
//
//   process_start    a new address space: parts of the file, stack, arguments
//        │           a new thread, which
//        v
//   process_main     loads the address space, then user_enter (entry.S) ──> ring 3
//                                                                             │
//   process_exit   <── exit                       syscall                     │ SYSCALL, INT 0x80
//        │         <── it made a mistake          process_exception           │ exception
//        │         <── somebody killed it         process_return              │ any interrupt
//        v                                                                    v
//   back on the kernel's tables, pages freed, thread_exit ──> process_end
//
// Whenever the thread comes from ring 3 its kernel stack is empty: TSS.rsp0 is the stack's top. So
// nothing needs to be unwound for it to end, wherever it was.
//
// A signal here is only a number that says why: there are no handlers, each one is the end.
//
// Context: as each function says.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/cpu.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/cputime.h>
#include <sched/thread.h>
#include <user/process.h>
#include <user/space.h>
#include "elf.h"
#include "internal.h"

enum {
    PROCESS_STACK_PAGES = 8,
    PROCESS_MAX_ARGUMENTS = 32,
    PROCESS_ARGUMENT_BYTES = 1024, // these and their pointers fit into one page
};

struct process {
    struct space space;          // of its thread, once it runs
    const struct process_io *io; // I
    struct thread *thread;       // I
    uintptr_t entry, stack;      // I: where it starts
    int signal, status;          // of its thread; read after its end
};

void user_enter(uintptr_t rip, uintptr_t rsp); // entry.S; does not return

// ---- loading ------------------------------------------------------------------------------------

static int process_load_segment(struct space *space, const uint8_t *file,
                                const struct elf_segment *segment)
{
    uint64_t flags = (segment->write ? PTE_W : 0) | (segment->execute ? 0 : PTE_NX);
    uintptr_t file_end = segment->address + segment->file_size;

    for (uintptr_t at = ALIGN_DOWN(segment->address, PAGE_SIZE);
         at < segment->address + segment->size; at += PAGE_SIZE) {
        uint8_t *page = space_map(space, at, flags);
        uintptr_t from = max(at, segment->address), to = min(at + PAGE_SIZE, file_end);

        if (page == NULL) {
            return -ENOMEM;
        }
        if (from < to) {
            memcpy(page + (from - at), file + segment->offset + (from - segment->address),
                   to - from);
        }
    }
    return 0;
}

static int process_load(struct process *process, const struct program *program)
{
    size_t size = (size_t)(program->end - program->start);
    struct elf elf;
    int err = elf_read(program->start, size, SPACE_BEGIN,
                       SPACE_END - PROCESS_STACK_PAGES * PAGE_SIZE - PAGE_SIZE, &elf);

    for (unsigned n = 0; n < elf.count && err == 0; n++) {
        err = process_load_segment(&process->space, program->start, &elf.segments[n]);
    }
    process->entry = elf.entry;
    return err;
}

// The stack as a program finds it (System V ABI, AMD64 supplement, figure 3.9):
//
//   rsp --> argc | argv[0] ... argv[argc - 1] | 0 | 0: no environment | 0 0: no auxiliary | strings
static int process_make_stack(struct process *process, int argc, char *const argv[])
{
    size_t bytes = 0;
    uint8_t *page = NULL; // the topmost
    uintptr_t base = SPACE_END - PAGE_SIZE;

    for (unsigned n = 0; n < PROCESS_STACK_PAGES; n++) {
        page =
            space_map(&process->space, SPACE_END - (PROCESS_STACK_PAGES - n) * (uintptr_t)PAGE_SIZE,
                      PTE_W | PTE_NX);
        if (page == NULL) {
            return -ENOMEM;
        }
    }
    for (int n = 0; n < argc && n < PROCESS_MAX_ARGUMENTS; n++) {
        bytes += strlen(argv[n]) + 1;
    }
    if (argc > PROCESS_MAX_ARGUMENTS || bytes > PROCESS_ARGUMENT_BYTES) {
        return -E2BIG;
    }
    size_t string = PAGE_SIZE - bytes;
    size_t words = ALIGN_DOWN(string - ((size_t)argc + 5) * sizeof(uint64_t), 16);
    uint64_t *word = (uint64_t *)(void *)(page + words);

    *word++ = (uint64_t)argc;
    for (int n = 0; n < argc; n++) {
        size_t length = strlen(argv[n]) + 1;

        memcpy(page + string, argv[n], length);
        *word++ = base + string;
        string += length;
    }
    process->stack = base + words;
    return 0;
}

// ---- beginning and end --------------------------------------------------------------------------

static void process_main(void *arg)
{
    struct process *process = arg;

    current->process = process;
    space_enter(&process->space);
    local_irq_disable();
    cputime_enter(&this_cpu(cputimes), CPU_USER);
    user_enter(process->entry, process->stack);
}

int process_start(const struct program *program, int argc, char *const argv[],
                  const struct process_io *io, struct process **result)
{
    might_sleep();
    struct process *process = kzalloc(sizeof(*process), GFP_KERNEL);
    int err;

    if (process == NULL) {
        return -ENOMEM;
    }
    process->io = io;
    err = space_init(&process->space);
    if (err == 0) {
        err = process_load(process, program);
    }
    if (err == 0) {
        err = process_make_stack(process, argc, argv);
    }
    if (err == 0) {
        process->thread = kthread_run(process_main, process, "%s", program->name);
        err = process->thread != NULL ? 0 : -ENOMEM;
    }
    if (err != 0) {
        space_free(&process->space);
        kfree(process);
        return err;
    }
    *result = process;
    return 0;
}

void process_exit(int signal, int status)
{
    struct process *process = current->process;

    might_sleep();
    process->signal = signal;
    process->status = status & 0xff;
    space_enter(NULL);
    space_free(&process->space);
    thread_exit();
}

int process_wait(struct process *process)
{
    might_sleep();
    return wait_for_completion_interruptible(process->thread->exited);
}

void process_kill(struct process *process)
{
    might_sleep();
    thread_interrupt(process->thread);
}

int process_end(struct process *process, int *status)
{
    thread_join(process->thread);
    int signal = process->signal;
    *status = process->status;
    kfree(process);
    return signal;
}

struct thread *process_thread(struct process *process)
{
    return process->thread;
}

const struct process_io *process_io(void)
{
    return current->process->io;
}

void process_end_wanted(void)
{
    lockdep_assert_irqs_disabled();
    if (current->process != NULL) {
        local_irq_enable();
        process_exit(SIGINT, 0);
    }
}

// ---- mistakes -----------------------------------------------------------------------------------

// As Linux tells a program's exceptions. Without an entry: no program can raise it, so it is our
// own mistake.
static const uint8_t process_signals[EXC_COUNT] = {
    [EXC_DE] = SIGFPE,  [EXC_DB] = SIGTRAP, [EXC_BP] = SIGTRAP, [EXC_OF] = SIGSEGV,
    [EXC_BR] = SIGSEGV, [EXC_UD] = SIGILL,  [EXC_NM] = SIGILL,  [EXC_NP] = SIGBUS,
    [EXC_SS] = SIGBUS,  [EXC_GP] = SIGSEGV, [EXC_PF] = SIGSEGV, [EXC_MF] = SIGFPE,
    [EXC_AC] = SIGBUS,  [EXC_XM] = SIGFPE,
};

#define PF_RESERVED 8 // a page table of ours is damaged

static void process_tell(const struct exception_record *record)
{
    const struct frame *frame = &record->frame;
    const char *name = current->name;
    int tid = current->tid;

    if (frame->vector == EXC_PF) {
        pr_ratelimited(LOG_INFO, "%s[%d]: segfault at %lx ip %016lx sp %016lx error %lx", name, tid,
                       record->cr2, frame->rip, frame->rsp, frame->error);
    } else if (frame->vector == EXC_GP) {
        pr_ratelimited(LOG_INFO, "traps: %s[%d] general protection fault ip:%lx sp:%lx error:%lx",
                       name, tid, frame->rip, frame->rsp, frame->error);
    } else {
        pr_ratelimited(LOG_INFO, "traps: %s[%d] trap %s ip:%lx sp:%lx error:%lx", name, tid,
                       exception_name((unsigned)frame->vector), frame->rip, frame->rsp,
                       frame->error);
    }
}

bool process_exception(const struct exception_record *record, struct frame *frame)
{
    int signal = process_signals[frame->vector % EXC_COUNT];

    if (current->process == NULL || signal == 0 ||
        (frame->vector == EXC_PF && (frame->error & PF_RESERVED))) {
        return false;
    }
    process_tell(record);
    local_irq_enable();
    process_exit(signal, 0);
}

const char *process_signal_text(int signal)
{
    switch (signal) {
    case SIGILL:
        return "Illegal instruction";
    case SIGTRAP:
        return "Trace/breakpoint trap";
    case SIGBUS:
        return "Bus error";
    case SIGFPE:
        return "Floating point exception";
    case SIGSEGV:
        return "Segmentation fault";
    default:
        return NULL;
    }
}
