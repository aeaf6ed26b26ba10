// Threads: kernel stacks with something to do. Each CPU has a run queue; a better thread preempts
// at the end of an interrupt.
// Context: any, where a line does not say otherwise.
#pragma once

#include <core/cpu.h>
#include <core/lockdep.h>
#include <lib/cpumask.h>
#include <lib/list.h>
#include <lib/text.h>
#include <lib/types.h>

enum thread_state {  // letters as ps shows them
    THREAD_RUNNING,  // R: running or on a run queue
    THREAD_SLEEPING, // S: until woken or interrupted (thread_stop, ^C)
    THREAD_BLOCKED,  // D: until woken; counts as load
    THREAD_IDLE,     // I: the same, but it has nothing to do: no load
    THREAD_DEAD,     // Z: waits to be reaped
    THREAD_IOWAIT,   // D: blocked, and for a disk: counts in its CPU's iowait
    THREAD_STATES
};

enum sched_policy {
    SCHED_OTHER = 0,
    SCHED_FIFO = 1,
    SCHED_RR = 2,
    SCHED_IDLE = 5
}; // numbers as in Linux

struct process;
struct wait_queue_head;
struct blk_plug;

struct thread {
    struct lock_stack locks;        // C: mutexes that it holds; <core/lockdep.h> looks for it here
    int tid;                        // I: shown as PID; 0 is each CPU's idle thread
    char name[16];                  // I: comm
    uintptr_t stack;                // I: lowest address
    const uint32_t *stack_end;      // I: its lowest word, STACK_MAGIC unless it was overrun
    uintptr_t saved_rsp;            // L: while it does not run
    phys_t cr3;                     // C: its program's page tables; 0: the kernel's will do
    struct process *process;        // I: the program that it runs in ring 3; NULL for most
    enum thread_state state;        // L of its run queue
    enum sched_policy policy;       // L
    uint8_t rt_priority;            // L: 1..99 for FIFO and RR, higher is better
    uint8_t rt_boost;               // L: the best of those who wait for its mutexes (pi.c)
    uint8_t rt_effective;           // L: the greater of the two: what the queues go by
    int8_t nice;                    // L
    uint32_t weight;                // L: its share against others, 1024 at nice 0; 0: not fair
    uint16_t cpu;                   // L: its run queue
    bool on_queue;                  // L: runnable: linked, current, or on its way to another queue
    bool misplaced;                 // L: runs, or ran last, where it may not any more
    bool bound;                     // I: serves its CPU: sched_setaffinity() refuses
    bool stop_wanted;               // A: kthread_stop() was called; never cleared
    bool interrupted;               // A: thread_interrupt(), ^C
    struct cpumask allowed;         // L
    struct list_head queue_link;    // L: run queue; empty while it is current or sleeps
    struct list_head all_link;      // L of the thread table
    uint32_t slice_ticks;           // C
    uint64_t runtime;               // L: on a CPU, in ticks of the time stamp counter
    uint64_t switched_in;           // C: time stamp of the last booking
    uint64_t switches;              // C
    uint64_t preemptions;           // C: how many of them it did not ask for
    uint64_t started;               // I: time stamp of its making
    uint64_t vruntime;              // L: SCHED_OTHER
    struct list_head pi_owned;      // L of mutex.c: its mutexes that others wait for
    struct mutex_waiter *pi_waiter; // L of mutex.c: the mutex that it waits for; NULL: none
    const char *wait_channel;       // L: what it sleeps on, for ps
    void (*fn)(void *arg);          // I
    void *arg;                      // I
    struct completion *exited;      // I
    int references;                 // A: one of its life, one of its maker, passing ones of ps
    // I: told before the thread sleeps (true) and after it has woken (false), in its own context.
    // NULL for most threads.
    void (*sleep_hook)(struct thread *thread, bool asleep);
    void (*exit_hook)(struct thread *thread); // C: told when it ends, in its own context; or NULL
    struct blk_plug *plug;                    // C: requests that it collects, of the block layer
    void *private_data;                       // of its owner: exception_catch, the shell's job
};

#define current (cpu_current())

// Boot CPU's idle thread from the boot stack; run queues. Context: boot.
void sched_init(void);
// The same on another CPU, in ap_main; does not return when there is no memory. Context: once per
// CPU.
void sched_init_cpu(void);
__noreturn void sched_idle(void); // ap_main and kernel_main end here. Context: once per CPU

// Makes a thread and starts it on the best CPU, or on `cpu` only. The name is formatted. NULL when
// there is no memory. Context: thread.
struct thread *kthread_run(void (*fn)(void *arg), void *arg, const char *name_format, ...)
    __printf(3, 4);
struct thread *kthread_run_on(unsigned cpu, void (*fn)(void *arg), void *arg,
                              const char *name_format, ...) __printf(4, 5);

// The thread serves the CPU that it was made for, and would be wrong on another one: nobody may
// give it others. Context: any.
static inline void kthread_bind(struct thread *thread)
{
    thread->bound = true;
}

// Who makes a thread owes it one of kthread_stop(), thread_join() or thread_put().
// kthread_stop asks it to end (it sees kthread_should_stop(), its interruptible sleeps return
// early) and waits until it has. Context: thread.
void kthread_stop(struct thread *thread);
bool kthread_should_stop(void); // Context: any
// Only asks: ^C. Sleeping waits return -EINTR. Context: any.
void thread_interrupt(struct thread *thread);
bool thread_interrupted(void); // of the current thread
void thread_clear_interrupt(void);
__noreturn void thread_exit(void); // Context: thread
// Waits for the thread to end and drops the caller's reference. Context: thread.
void thread_join(struct thread *thread);
// References keep the struct (not the stack) after the thread's end; the last one frees it.
// Context: any.
void thread_get(struct thread *thread);
void thread_put(struct thread *thread);
// "shell/12": name and tid of the running thread, for reports. Context: any.
const char *thread_current_name(void);

// 0, -EINVAL (priority 1..99 for FIFO and RR, 0 otherwise). Context: thread.
int sched_setscheduler(struct thread *thread, enum sched_policy policy, int rt_priority);
void sched_set_nice(struct thread *thread, int nice);
int sched_setaffinity(struct thread *thread,
                      const struct cpumask *mask); // -EINVAL: no online CPU, or bound

// Gives the CPU away; a thread in THREAD_RUNNING stays runnable. Context: thread.
void schedule(void);
void yield(void);
// The first half of going to sleep: state first, then the test of the condition, then schedule(). A
// full barrier, so that a waker who makes the condition true afterwards sees the state. The
// wait_event family does all this.
static inline void set_current_state(enum thread_state state)
{
    __atomic_exchange_n(&current->state, state, __ATOMIC_SEQ_CST);
}
// Puts a sleeping thread on a run queue; false when it was already running. Context: any.
bool wake_up_process(struct thread *thread);
// The same, for who has interrupts and preemption off: a better thread gets the CPU when he turns
// preemption on. Context: interrupts off.
bool sched_wake_atomic(struct thread *thread);

// The tick's share, and the spine's: switch now if wanted and allowed. Context: hard irq;
// interrupts off.
void sched_tick(void);
// Does this CPU idle, with nothing to do? Then it needs no tick: only something at the moment when
// the first of its sleepers is to be woken (false: there is none), and to be told when it idles no
// more, by the function that is handed down here. Context: hard irq; interrupts off.
bool sched_can_stop_tick(void);
bool sched_next_sleeper(uint32_t *at_jiffies);
extern void (*sched_tick_restart)(void); // I
// Brings jiffies up to the clock, where ticks are late. Context: interrupts off.
extern void (*sched_update_jiffies)(void); // I
// A look at the load, for whoever advances jiffies. Context: interrupts off.
void sched_load_tick(void);
void sched_preempt_irq(void); // Context: interrupts off
// The tick asks for sched_balance_softirq() through this; kernel_main ties it to SCHED_SOFTIRQ.
extern void (*sched_raise_balance)(void);
void sched_balance_softirq(void); // context: softirq
// For cpu_preempt_hook.
void sched_preempt(void);

uint64_t sched_context_switches(void);
uint64_t sched_threads_created(void);
unsigned sched_running(void), sched_blocked(void);
unsigned sched_iowait(void); // those of the blocked that wait for a disk
// Threads that ran, could run or were blocked (D), averaged over 1, 5 and 15 minutes, in
// hundredths.
void sched_load(unsigned hundredths[3]);

// Calls visit for each thread under the table's lock: it may not sleep. For ps and gdb.
void thread_for_each(void (*visit)(struct thread *thread, void *arg), void *arg);
