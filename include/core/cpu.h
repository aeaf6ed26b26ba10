// This CPU: who it is, what it is running, and whether it may be interrupted or switched. The only
// per-CPU data that assembly reaches lives here, at %gs; everything else per CPU is a plain array
// in the file that owns it: this_cpu(array).
//
//   thread code      irq_depth 0  serving_softirq 0   may sleep if preempt_off == 0, interrupts on
//   softirq          irq_depth 0  serving_softirq 1   interrupts on, never sleeps
//   hard interrupt   irq_depth 1                      interrupts off
//
// Context: any, except where a line says otherwise.
#pragma once

#include <lib/cpumask.h>
#include <lib/types.h>

struct thread;
struct run_queue;
struct softirq_cpu;
struct police_cpu;
struct tasklet_struct;
struct frame;

// Offsets are used by kernel/x86/*.S and asserted in kernel/core/cpu.c.
struct cpu {
    struct cpu *self;      // I   0
    uint32_t id;           // I   8: 0 is the boot CPU
    uint32_t apic_id;      // I  12
    struct thread *thread; // C  16: who runs; `current` of <sched/thread.h>
    uint64_t kernel_rsp;   // C  24: stack top of the running thread, for entries from ring 3
    uint64_t user_rsp;     // C  32: scratch of the SYSCALL entry
    union {
        struct {
            uint16_t irq_depth;   // C: hard interrupt handlers on this stack
            bool serving_softirq; // C
            uint16_t bh_disabled; // C: local_bh_disable() nesting
            uint16_t nmi_depth;   // C: NMI and #MC handlers
        };
        uint64_t above_thread; // 0: thread code that softirqs may interrupt; one look at all
    };
    uint32_t preempt_off; // C: preempt_disable() nesting, spinlocks included
    bool want_resched;    // C: a better thread waits; set with interrupts off
    bool online;          // A
    bool in_panic;        // C
    uint8_t trace_next;   // C: slot of the next record; read by others
    union {
        struct {
            bool tick_stopped; // C: idles without a tick; read by others (kernel/defer/tick.c)
            bool rcu_idle;     // C: idles, no RCU readers here; read by others (<core/rcu.h>)
        };
        uint16_t idle_marks; // not 0: an interrupt has to take one of them back
    };
    uint16_t rcu_passes; // C: RCU quiescent states so far, wraps; read by others
    // C: the timer's or tasklet's function that a softirq [0], a hard interrupt [1] calls just now:
    // what others wait for; NULL: none. For the police (<core/lockdep.h>)
    const void *calls[2];
    struct run_queue *queue;      // I: of kernel/sched
    struct cputime *books;        // I: of its time (<sched/cputime.h>)
    struct softirq_cpu *softirqs; // I: of kernel/defer/softirq.c
    struct police_cpu *police;    // I: of kernel/core/police.h
    // C: the last one that was scheduled, and so by tasklet_hi_schedule(); kernel/defer/tasklet.c
    struct tasklet_struct *tasklets, *tasklets_hi;
    uint64_t trace_ring;           // A: where trace() writes; <core/trace.h> says how
    const struct frame *irq_frame; // C: what the hard interrupt of this moment interrupted
    uint64_t handler_tsc;          // C: when the handler that runs was called: they do not nest
    uint64_t interrupts;           // C: taken, exceptions aside
    uint64_t irq_since;            // C: TSC when its hard interrupt began; 0: none; read by others
    uint32_t softirq_pending;      // C: bit n: softirq n; 31: <defer/softirq.h>
    uint32_t lock_holder;          // I: what spinlocks are marked with: id + 1, as 0 is nobody
} __aligned(64);
// Values of cpu.above_thread where one thing is all there is.
enum { ABOVE_IS_IRQ = 1, ABOVE_IS_SOFTIRQ = 1 << 16 };
_Static_assert(offsetof(struct cpu, irq_depth) == offsetof(struct cpu, above_thread), "bit 0");
_Static_assert(offsetof(struct cpu, serving_softirq) == offsetof(struct cpu, above_thread) + 2,
               "16");

extern struct cpu cpus[MAX_CPUS];
void cpu_set_up(unsigned cpu);         // before anything else of that CPU's. Context: boot
extern unsigned cpu_count;             // I: CPUs that the machine has (possible), 1 .. MAX_CPUS
extern struct cpumask cpu_online_mask; // A
// I: CPUs kept free of interrupts and of threads that were not put there: boot option isolcpus=.
extern struct cpumask cpu_isolated_mask;

#define for_each_online_cpu(cpu) for_each_cpu (cpu, &cpu_online_mask)

// Reads one field of this CPU's struct with one %gs instruction: no window in which the thread
// could migrate.
#define cpu_field(field)                                      \
    ({                                                        \
        __typeof__(((struct cpu *)0)->field) cpu_value_;      \
        __asm__ volatile("mov %%gs:%c1, %0"                   \
                         : "=r"(cpu_value_)                   \
                         : "i"(offsetof(struct cpu, field))); \
        cpu_value_;                                           \
    })

// Is that field of this CPU's other than 0? One instruction, and a branch on the flags it sets.
#define cpu_field_set(field)                                      \
    ({                                                            \
        bool cpu_set_;                                            \
        if (sizeof(((struct cpu *)0)->field) == 8) {              \
            __asm__ volatile("cmpq $0, %%gs:%c1"                  \
                             : "=@ccne"(cpu_set_)                 \
                             : "i"(offsetof(struct cpu, field))); \
        } else if (sizeof(((struct cpu *)0)->field) == 4) {       \
            __asm__ volatile("cmpl $0, %%gs:%c1"                  \
                             : "=@ccne"(cpu_set_)                 \
                             : "i"(offsetof(struct cpu, field))); \
        } else if (sizeof(((struct cpu *)0)->field) == 2) {       \
            __asm__ volatile("cmpw $0, %%gs:%c1"                  \
                             : "=@ccne"(cpu_set_)                 \
                             : "i"(offsetof(struct cpu, field))); \
        } else {                                                  \
            __asm__ volatile("cmpb $0, %%gs:%c1"                  \
                             : "=@ccne"(cpu_set_)                 \
                             : "i"(offsetof(struct cpu, field))); \
        }                                                         \
        cpu_set_;                                                 \
    })

// For a field of eight bytes that this CPU alone touches, its interrupts included: to write it; to
// exchange it, for what it was; to set it if it is `from` yet. One instruction each, which no
// interrupt can part.
#define cpu_field_check(field) _Static_assert(sizeof(((struct cpu *)0)->field) == 8, #field)
#define cpu_field_write(field, value)                                                          \
    ({                                                                                         \
        cpu_field_check(field);                                                                \
        __typeof__(((struct cpu *)0)->field) cpu_new_ = (value);                               \
        __asm__ volatile("movq %0, %%gs:%c1" ::"r"(cpu_new_), "i"(offsetof(struct cpu, field)) \
                         : "memory");                                                          \
    })
#define cpu_field_xchg(field, value)                             \
    ({                                                           \
        cpu_field_check(field);                                  \
        __typeof__(((struct cpu *)0)->field) cpu_old_ = (value); \
        __asm__ volatile("xchgq %0, %%gs:%c1"                    \
                         : "+r"(cpu_old_)                        \
                         : "i"(offsetof(struct cpu, field))      \
                         : "memory");                            \
        cpu_old_;                                                \
    })
#define cpu_field_try(field, from, to)                                           \
    ({                                                                           \
        cpu_field_check(field);                                                  \
        __typeof__(((struct cpu *)0)->field) cpu_from_ = (from), cpu_to_ = (to); \
        bool cpu_done_;                                                          \
        __asm__ volatile("cmpxchgq %2, %%gs:%c3"                                 \
                         : "=@ccz"(cpu_done_), "+a"(cpu_from_)                   \
                         : "r"(cpu_to_), "i"(offsetof(struct cpu, field))        \
                         : "memory");                                            \
        cpu_done_;                                                               \
    })

static inline struct cpu *cpu_self(void)
{
    return cpu_field(self);
}

static inline unsigned cpu_id(void)
{
    return cpu_field(id);
}

static inline struct thread *cpu_current(void)
{
    return cpu_field(thread);
}

// This CPU's element of a per-CPU array. The caller keeps the thread from migrating (interrupts or
// preemption off).
#define this_cpu(array) ((array)[cpu_id()])

// The context police: whoever takes a lock, turns interrupts off or preemption, does it under its
// eyes (kernel/core/lockdep.c, kernel/core/latency.c).
//
// police_watches() is asked at each of these places, so the answer is in the code itself: a jump to
// the watched way. Boot option police=off makes an instruction that does nothing of each of them,
// once, before the kernel's text is made read-only (kernel/core/cpu.c); .set.police_place lists
// them.
#ifdef HOST_TEST
enum { police_on = false };
static inline bool police_watches(void)
{
    return false;
}
#else
extern bool police_on; // I

static __always_inline bool police_watches(void)
{
    __asm__ goto("1: .byte 0xe9; .long %l[watched] - 2f\n" // JMP rel32, whatever the distance
                 "2: .pushsection .set.police_place.all, \"a\", @progbits\n"
                 "   .long 1b - .\n"
                 "   .popsection" :: ::watched);
    return false;
watched:
    return true;
}
#endif

// What the boot options said becomes the kernel's code. Context: boot CPU, which is alone,
// interrupts off, no lock held, before map_init().
void police_settle(void);

// For the functions below (kernel/core/latency.c).
void police_irq_disable(void);
unsigned long police_irq_save(void);
void police_irq_enable(void);
void police_irqs_on(void); // says that they are about to be turned on
void police_preempt_disable(void);
void police_preempt_enable(void);

// Interrupts on this CPU. Flags are RFLAGS; only IF matters.
#define CPU_FLAGS_IF 0x200ul

static inline unsigned long local_irq_flags(void)
{
    unsigned long flags;
    __asm__ volatile("pushfq; pop %0" : "=r"(flags)::"memory");
    return flags;
}

static inline bool irqs_disabled(void)
{
    return (local_irq_flags() & CPU_FLAGS_IF) == 0;
}

// The bare steps, for who has asked for the police already (<core/spinlock.h>), and the police.
static inline void raw_irq_disable(void)
{
    __asm__ volatile("cli" ::: "memory");
}

static inline void raw_irq_enable(void)
{
    __asm__ volatile("sti" ::: "memory");
}

static inline unsigned long raw_irq_save(void)
{
    unsigned long flags = local_irq_flags();

    raw_irq_disable();
    return flags;
}

static inline void raw_irq_restore(unsigned long flags)
{
    if ((flags & CPU_FLAGS_IF) != 0) {
        raw_irq_enable();
    } else {
        barrier();
    }
}

static inline void local_irq_disable(void)
{
    if (unlikely(police_watches())) {
        police_irq_disable();
        return;
    }
    raw_irq_disable();
}

static inline void local_irq_enable(void)
{
    if (unlikely(police_watches())) {
        police_irq_enable();
        return;
    }
    raw_irq_enable();
}

static inline unsigned long local_irq_save(void)
{
    if (unlikely(police_watches())) {
        return police_irq_save();
    }
    return raw_irq_save();
}

// Turns interrupts on only when they were on at the save: that is what makes nesting right.
static inline void local_irq_restore(unsigned long flags)
{
    if (flags & CPU_FLAGS_IF) {
        local_irq_enable();
    } else {
        barrier();
    }
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

// Sleeps until the next interrupt. STI takes effect after the following instruction, so none is
// lost between the two.
static inline void cpu_sti_hlt(void)
{
    if (unlikely(police_watches())) {
        police_irqs_on();
    }
    __asm__ volatile("sti; hlt" ::: "memory");
}

static inline __noreturn void cpu_stop(void)
{
    for (;;) {
        __asm__ volatile("cli; hlt" ::: "memory");
    }
}

static inline uint64_t rdtsc(void)
{
    uint64_t tsc; // it comes in two halves, each in a register of its own
    __asm__ volatile("rdtsc; shl $32, %%rdx; or %%rdx, %0" : "=a"(tsc)::"rdx", "cc");
    return tsc;
}

// Keep this thread on this CPU. The counter is touched by one CPU only, and an interrupt leaves it
// as it found it.
static inline void raw_preempt_disable(void)
{
    __asm__ volatile("incl %%gs:%c0" ::"i"(offsetof(struct cpu, preempt_off)) : "memory");
}

static inline void preempt_disable(void)
{
    if (unlikely(police_watches())) {
        police_preempt_disable();
        return;
    }
    raw_preempt_disable();
}

// Undo; switches threads at once when one was asked for meanwhile and this is a place where that is
// allowed. The switch itself belongs to kernel/sched, which hands its function down
// (cpu_preempt_hook).
void preempt_enable_slow(void);
extern void (*cpu_preempt_hook)(void); // I: set by kernel_main

static inline void raw_preempt_enable(void)
{
    bool wanted;

    __asm__ volatile("decl %%gs:%c1; cmpb $0, %%gs:%c2"
                     : "=@ccne"(wanted)
                     : "i"(offsetof(struct cpu, preempt_off)),
                       "i"(offsetof(struct cpu, want_resched))
                     : "memory");
    if (unlikely(wanted)) {
        preempt_enable_slow();
    }
}

static inline void preempt_enable(void)
{
    if (unlikely(police_watches())) {
        police_preempt_enable();
        return;
    }
    raw_preempt_enable();
}

static inline bool in_hardirq(void)
{
    return cpu_field(irq_depth) != 0;
}

static inline bool in_nmi(void)
{
    return cpu_field(nmi_depth) != 0;
}

static inline bool in_softirq(void)
{
    return cpu_field(serving_softirq) || cpu_field(bh_disabled) != 0;
}

static inline bool in_task(void)
{
    return !in_hardirq() && !in_nmi() && !cpu_field(serving_softirq);
}

// True where sleeping is a bug.
static inline bool in_atomic(void)
{
    return cpu_field_set(above_thread) || cpu_field_set(preempt_off) || irqs_disabled();
}

// Contexts as a set, for assert_context().
enum {
    CTX_THREAD = 1, // may sleep
    CTX_ATOMIC = 2, // thread code that may not sleep: lock held, preemption or interrupts off
    CTX_SOFTIRQ = 4,
    CTX_HARDIRQ = 8,
};

// Which one of the above this is.
unsigned cpu_context(void);

// The same in Linux's four letters, for reports and for the flight recorder: interrupts off d, a
// better thread waits N, hard interrupt h (over a softirq H, NMI Z) or softirq s, and how deep
// preemption is off; a dot for no.
uint32_t cpu_context_flags(void);
uint32_t cpu_context_flags_of(const struct cpu *cpu, bool irqs_off); // `cpu`: or a copy
void cpu_context_letters(uint32_t flags, char letters[5]);

// Reports a BUG with both the allowed contexts and this one, and a backtrace, when `allowed` does
// not hold it. The kernel goes on.
void assert_context_failed(unsigned allowed, const char *function);
#ifdef HOST_TEST // is a thread, always
#define cpu_context() CTX_THREAD
#endif
#define assert_context(allowed)                           \
    do {                                                  \
        if (unlikely((cpu_context() & (allowed)) == 0)) { \
            assert_context_failed(allowed, __func__);     \
        }                                                 \
    } while (0)
// in_atomic() in fewer steps: who serves softirqs or keeps them off has preemption off as well, and
// interrupt handlers run with interrupts off.
static inline bool may_not_sleep(void)
{
#ifdef HOST_TEST
    return false;
#else
    return cpu_field_set(preempt_off) || irqs_disabled();
#endif
}
// The cheap form for what may sleep.
#define might_sleep()                                    \
    do {                                                 \
        if (unlikely(may_not_sleep())) {                 \
            assert_context_failed(CTX_THREAD, __func__); \
        }                                                \
    } while (0)

// The two where each instruction counts: asked only while the police is on.
#define police_context(allowed)      \
    do {                             \
        if (police_watches()) {      \
            assert_context(allowed); \
        }                            \
    } while (0)
#define police_might_sleep()    \
    do {                        \
        if (police_watches()) { \
            might_sleep();      \
        }                       \
    } while (0)

// For what may sleep, and is used before there are threads, too: while the machine boots interrupts
// are off all along, so that alone is no mistake.
static inline bool may_never_sleep(void)
{
#ifdef HOST_TEST
    return false;
#else
    return in_hardirq() || in_nmi() || in_softirq() || cpu_field(preempt_off) != 0;
#endif
}
#define might_sleep_or_boot()                            \
    do {                                                 \
        if (unlikely(may_never_sleep())) {               \
            assert_context_failed(CTX_THREAD, __func__); \
        }                                                \
    } while (0)

// What is asked for otherwise, while the police is on; `what` is the mistake, as in "with
// interrupts on". Names as in Linux, where it has them.
void police_assert_failed(const char *what, const char *function);
#define police_assert(condition, what)            \
    do {                                          \
        if (police_watches() && !(condition)) {   \
            police_assert_failed(what, __func__); \
        }                                         \
    } while (0)
#define lockdep_assert_irqs_disabled() police_assert(irqs_disabled(), "with interrupts on")
#define lockdep_assert_irqs_enabled()  police_assert(!irqs_disabled(), "with interrupts off")
#define assert_in_softirq()            police_assert(in_softirq(), "with softirqs on, outside of one")
#define assert_not_nmi()               police_assert(!in_nmi(), "in an NMI")
