// Threads: making them, ending them, and the table of all.
//
// A thread is a struct and a stack, which live for different times:
//
//   struct   as long as anybody refers to it: the thread's own life holds one reference, its maker
//            another (given back by kthread_stop, thread_join or thread_put), and whoever found it
//            in the table may take one
//   stack    as long as it runs. It cannot free the stack it stands on, so the thread that runs
//            next on that CPU does (thread_reap, called by sched.c with interrupts off). Unmapping
//            needs more than that, so the stack goes to a small shelf, from which the next thread
//            takes it; whoever comes by in thread context empties the shelf down to a few.
//
//   lowest address                                                     top
//   | unmapped guard | STACK_MAGIC | ...                 <── grows |
//
// tid 0 is the idle thread of each CPU; the boot CPU's is what kernel_main becomes when all is
// started. tid 1 is the first thread made: "init", which starts everything that may sleep, then
// serves the console.
//
// Context: as each function says; the table's lock is taken with interrupts off.
#include <stdarg.h>

#include <lib/errno.h>
#include <lib/format.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <x86/switch.h>
#include <mm/map.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/thread.h>

#include "internal.h"

enum { STACK_SHELF_MAX = 8 };

// A stack on the shelf; the struct lies at its lowest address.
struct free_stack {
    struct free_stack *next;
};

// One allocation: the completion that joiners wait for lives as long as the struct.
struct thread_block {
    struct thread thread;
    struct completion exited;
};

static DEFINE_SPINLOCK(thread_table_lock);
static LIST_HEAD(thread_table);  // L
static int thread_last_tid;      // A
static uint64_t threads_created; // A

static DEFINE_SPINLOCK(stack_shelf_lock);
static struct free_stack *stack_shelf; // L
static unsigned stack_shelf_count;     // L

// ---- stacks ------------------------------------------------------------------------------------

static struct free_stack *stack_take_from_shelf(unsigned leave)
{
    struct free_stack *stack = NULL;
    unsigned long flags;

    spin_lock_irqsave(&stack_shelf_lock, flags);
    if (stack_shelf_count > leave) {
        stack = stack_shelf;
        stack_shelf = stack->next;
        stack_shelf_count--;
    }
    spin_unlock_irqrestore(&stack_shelf_lock, flags);
    return stack;
}

static void stack_put_on_shelf(uintptr_t address)
{
    struct free_stack *stack = (struct free_stack *)address;
    unsigned long flags;

    spin_lock_irqsave(&stack_shelf_lock, flags);
    stack->next = stack_shelf;
    stack_shelf = stack;
    stack_shelf_count++;
    spin_unlock_irqrestore(&stack_shelf_lock, flags);
}

// Context: thread.
static void stack_shelf_trim(void)
{
    struct free_stack *stack;

    while ((stack = stack_take_from_shelf(STACK_SHELF_MAX)) != NULL) {
        unmap_stack(stack);
    }
}

static uintptr_t stack_make(void)
{
    void *stack = stack_take_from_shelf(0);

    if (stack == NULL) {
        stack = map_stack();
    }
    if (stack != NULL) {
        *(uint32_t *)stack = STACK_MAGIC;
    }
    return (uintptr_t)stack;
}

// ---- making ------------------------------------------------------------------------------------

static void thread_init(struct thread *thread, unsigned cpu)
{
    thread->cpu = (uint16_t)cpu;
    thread->started = rdtsc();
    INIT_LIST_HEAD(&thread->queue_link);
    INIT_LIST_HEAD(&thread->all_link);
    INIT_LIST_HEAD(&thread->pi_owned);
}

static void thread_table_add(struct thread *thread)
{
    unsigned long flags;

    spin_lock_irqsave(&thread_table_lock, flags);
    list_add_tail(&thread->all_link, &thread_table);
    spin_unlock_irqrestore(&thread_table_lock, flags);
}

void thread_init_idle(struct thread *thread, unsigned cpu)
{
    static const uint32_t no_stack_end = STACK_MAGIC; // its stack is the boot's, not ours

    thread_init(thread, cpu);
    thread->stack_end = &no_stack_end;
    snprintf(thread->name, sizeof(thread->name), "swapper/%u", cpu);
    thread->policy = SCHED_IDLE;
    thread->references = 1;
    thread->on_queue = true;
    cpumask_set(&thread->allowed, cpu);
    thread_table_add(thread);
}

static struct thread *thread_make(void (*fn)(void *arg), void *arg, const char *name_format,
                                  va_list args)
{
    struct thread_block *block = kzalloc(sizeof(*block), GFP_KERNEL);
    struct thread *thread;

    if (block == NULL) {
        return NULL;
    }
    thread = &block->thread;
    thread->stack = stack_make();
    if (thread->stack == 0) {
        kfree(block);
        return NULL;
    }
    thread->stack_end = (const uint32_t *)thread->stack;
    thread_init(thread, 0);
    thread_set_class(thread, SCHED_OTHER, 0, 0);
    init_completion(&block->exited);
    thread->exited = &block->exited;
    vsnprintf(thread->name, sizeof(thread->name), name_format, args);
    thread->fn = fn;
    thread->arg = arg;
    thread->references = 2;
    thread->saved_rsp = switch_prepare(thread->stack + KERNEL_STACK_SIZE, sched_first_run, thread);
    thread->tid = __atomic_add_fetch(&thread_last_tid, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&threads_created, 1, __ATOMIC_RELAXED);
    thread_table_add(thread);
    return thread;
}

struct thread *kthread_run(void (*fn)(void *arg), void *arg, const char *name_format, ...)
{
    might_sleep();
    struct thread *thread;
    va_list args;

    va_start(args, name_format);
    thread = thread_make(fn, arg, name_format, args);
    va_end(args);
    if (thread != NULL) {
        for (unsigned word = 0; word < ARRAY_SIZE(thread->allowed.bits); word++) {
            thread->allowed.bits[word] = ~cpu_isolated_mask.bits[word];
        }
        sched_start(thread);
    }
    stack_shelf_trim();
    return thread;
}

struct thread *kthread_run_on(unsigned cpu, void (*fn)(void *arg), void *arg,
                              const char *name_format, ...)
{
    might_sleep();
    struct thread *thread;
    va_list args;

    if (!cpumask_test(&cpu_online_mask, cpu)) {
        return NULL;
    }
    va_start(args, name_format);
    thread = thread_make(fn, arg, name_format, args);
    va_end(args);
    if (thread != NULL) {
        cpumask_set(&thread->allowed, cpu);
        sched_start(thread);
    }
    stack_shelf_trim();
    return thread;
}

// ---- ending ------------------------------------------------------------------------------------

void thread_exit(void)
{
    might_sleep();
    if (current->exit_hook != NULL) {
        current->exit_hook(current);
    }
    complete_all(current->exited);
    sched_end();
}

void thread_reap(struct thread *thread)
{
    uintptr_t stack = thread->stack;

    thread->stack = 0;
    stack_put_on_shelf(stack);
    thread_put(thread);
}

void thread_get(struct thread *thread)
{
    __atomic_fetch_add(&thread->references, 1, __ATOMIC_RELAXED);
}

void thread_put(struct thread *thread)
{
    unsigned long flags;

    // The last reference goes under the table's lock: who walks the table sees only threads that
    // somebody holds.
    spin_lock_irqsave(&thread_table_lock, flags);
    int left = __atomic_sub_fetch(&thread->references, 1, __ATOMIC_ACQ_REL);
    if (left == 0) {
        list_del(&thread->all_link);
    }
    spin_unlock_irqrestore(&thread_table_lock, flags);
    if (left == 0) {
        kfree(container_of(thread, struct thread_block, thread));
    }
    WARN_ON(left < 0);
}

void thread_join(struct thread *thread)
{
    wait_for_completion(thread->exited);
    thread_put(thread);
    stack_shelf_trim();
}

void kthread_stop(struct thread *thread)
{
    __atomic_store_n(&thread->stop_wanted, true, __ATOMIC_SEQ_CST);
    wake_up_process(thread);
    thread_join(thread);
}

bool kthread_should_stop(void)
{
    return __atomic_load_n(&current->stop_wanted, __ATOMIC_RELAXED);
}

void thread_interrupt(struct thread *thread)
{
    __atomic_store_n(&thread->interrupted, true, __ATOMIC_SEQ_CST);
    sched_wake_interruptible(thread);
}

bool thread_interrupted(void)
{
    struct thread *thread = current;

    return __atomic_load_n(&thread->interrupted, __ATOMIC_RELAXED) ||
           __atomic_load_n(&thread->stop_wanted, __ATOMIC_RELAXED);
}

void thread_clear_interrupt(void)
{
    __atomic_store_n(&current->interrupted, false, __ATOMIC_RELAXED);
}

// ---- looking -----------------------------------------------------------------------------------

void thread_for_each(void (*visit)(struct thread *thread, void *arg), void *arg)
{
    struct thread *thread;
    unsigned long flags;

    spin_lock_irqsave(&thread_table_lock, flags);
    list_for_each_entry (thread, &thread_table, all_link) {
        visit(thread, arg);
    }
    spin_unlock_irqrestore(&thread_table_lock, flags);
}

_Static_assert(offsetof(struct thread, locks) == 0, "lockdep_thread_stack()");

const char *thread_current_name(void)
{
    static char text[MAX_CPUS]
                    [32]; // C: the end of one CPU's story may be told on several CPUs at once
    const struct thread *thread = current;
    char *to = this_cpu(text);

    if (thread == NULL) {
        return "no thread yet";
    }
    snprintf(to, sizeof(text[0]), "%s/%d", thread->name, thread->tid);
    return to;
}

uint64_t sched_threads_created(void)
{
    return __atomic_load_n(&threads_created, __ATOMIC_RELAXED);
}
