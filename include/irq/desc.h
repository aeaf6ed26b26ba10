// The interrupt core's own structures: one descriptor per irq. Drivers see <irq/irq.h> instead.
//
//   vector ──irq_vector_table──> struct irq_desc ──flow──> irq_data/chip (mask, eoi ...)
//                                      └──action──> irqaction ──next──> irqaction (IRQF_SHARED)
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/irq_chip.h>
#include <core/spinlock.h>
#include <irq/irq.h>
#include <irq/route.h>
#include <lib/list.h>

enum { MAX_IRQS = 512 };

struct irqaction {
    irq_handler_t handler;   // I
    irq_handler_t thread_fn; // I: runs in a thread; NULL: none
    void *dev_id;            // I
    unsigned long flags;     // I
    const char *name;        // I
    unsigned irq;            // I
    struct irqaction *next;  // L; read without it by the flow handlers, which free_irq waits for
    uint64_t count;          // A, without care: how often it returned IRQ_HANDLED
    uint64_t cycles;         // A, without care: spent in it, all told
    uint64_t cycles_max;     // A, without care: the longest
    void *thread;            // I: of whoever makes threads (irq_threads)
};

struct irq_desc;
typedef void (*irq_flow_t)(struct irq_desc *desc);

struct irq_desc {
    struct spinlock lock;
    struct irq_data data;     // L
    irq_flow_t flow;          // L: flow_level, flow_edge, flow_percpu
    struct irqaction *action; // L, see irqaction.next
    union {
        struct {
            uint16_t depth;       // L: disable_irq nesting; not 0 while there is no action
            uint16_t in_progress; // A: CPUs that are in the handlers now
            bool masked;          // L: at the controller
            bool pending;         // L: an edge came while disabled or in progress
        };
        uint64_t obstacles; // 0: nothing stands between an edge and its handlers; one look at all
    };
    bool own_eoi;                      // L: the chip has one of its own: data.chip->irq_eoi
    bool exists;                       // I: there is a wire or a message behind it
    bool started;                      // L: vector programmed
    bool killed;                       // L: disabled by the spurious detector
    uint32_t kills;                    // L: how often, without a good spell in between
    uint32_t polls;                    // L: times that its handlers were asked while it was shut
    uint32_t revive_jiffies;           // L: when it may come back (irqstorm=backoff)
    bool retyped;                      // L: a driver has requested another trigger than
    bool wired_level, wired_low;       // L: what the tables say, until the last handler goes
    bool oneshot;                      // L: stays masked until its threads are done
    uint32_t threads_active;           // A: threads that were woken and are not done
    struct cpumask affinity;           // L: the wish (smp_affinity)
    struct cpumask effective_affinity; // L: the truth
    struct cpumask affinity_hint;      // L
    uint32_t spurious_window;          // L: how many are counted together; 0: none was yet ...
    int32_t spurious_count;            // L: ... which counts from -spurious_window up to 0
    uint32_t unhandled, nobodys;       // L: not handled among them, long ago forgiven; all told
    uint32_t last_unhandled_jiffies;   // L
    uint32_t count[MAX_CPUS];          // C: /proc/interrupts
};

enum { OBSTACLE_IN_PROGRESS = 1 << 16 }; // one CPU in the handlers, in irq_desc.obstacles
_Static_assert(offsetof(struct irq_desc, in_progress) == offsetof(struct irq_desc, obstacles) + 2,
               "bit 16");

extern struct irq_desc irq_descs[MAX_IRQS];
struct irq_desc *irq_to_desc(unsigned irq); // NULL when there is none
unsigned irq_count(void);                   // one past the highest irq that exists (nr_irqs)
uint64_t irq_desc_total(const struct irq_desc *desc);

// What the spine calls for every interrupt from outside: in line, as all of it runs each time.
// Whose the vector is, is looked up first. Context: hard irq.
static inline struct irq_desc *irq_of_vector(uint8_t vector)
{
    return READ_ONCE(route_vectors[vector]); // NULL: no device's
}
static inline void irq_dispatch(struct cpu *cpu, struct irq_desc *desc)
{
    cpu->interrupts++;
    desc->count[cpu->id]++;
    desc->flow(desc);
}
void irq_dispatch_system(struct cpu *cpu, uint8_t vector);

// Flow handlers: when to mask, acknowledge and call. Context: hard irq; one CPU may be in the same
// edge flow's handlers at a time.
void flow_level(struct irq_desc *desc);  // "fasteoi": actions, then EOI
void flow_edge(struct irq_desc *desc);   // EOI first, actions; again if another edge came meanwhile
void flow_percpu(struct irq_desc *desc); // EOI, action; no lock
// Programs vector, CPU and trigger, and lets it in; and the reverse. 0 or -ENOSPC (no vector left).
// Context: desc->lock held.
int irq_start(struct irq_desc *desc);
void irq_shutdown(struct irq_desc *desc);
// Mask and unmask that remember. Context: desc->lock held.
void irq_mask(struct irq_desc *desc);
void irq_unmask(struct irq_desc *desc);

// Threads belong to a layer above (kernel/defer/irq_thread.c), which hands these down: kernel_main
// ties irq_threads. Without it a request for a threaded handler is refused.
struct irq_thread_ops {
    // Gives the action its thread; may turn its handler into a threaded one (threadirqs). 0 or
    // -ENOMEM. Context: thread, before the action is linked.
    int (*setup)(struct irqaction *action);
    // Context: hard irq, from the flow handler. True when the thread was not awake already.
    bool (*wake)(struct irqaction *action);
    // Waits until threads_active is 0. Context: thread, not one of this irq's.
    void (*wait)(struct irq_desc *desc);
    // Ends the thread. Context: thread, after the wait.
    void (*release)(struct irqaction *action);
};
extern const struct irq_thread_ops *irq_threads;

// By a thread that has run its thread_fn once: notes the result; the last one lets a one-shot line
// in again. Context: thread.
void irq_thread_done(struct irq_desc *desc, irqreturn_t result);

// Takes note of what the handlers said; a line that nobody cares for is shut after 99,900 of
// 100,000. Most of the time it is one more that was handled. Context: desc->lock held.
void irq_note_rest(struct irq_desc *desc, irqreturn_t result);
// Handled as well: the first of those that are counted together, or the last.
void irq_note_edge(struct irq_desc *desc);
static inline void irq_note_handled(struct irq_desc *desc)
{
    if (unlikely(++desc->spurious_count >= 0)) {
        irq_note_edge(desc);
    }
}
static inline void irq_note_result(struct irq_desc *desc, irqreturn_t result)
{
    if (likely(result == IRQ_HANDLED)) {
        irq_note_handled(desc);
    } else {
        irq_note_rest(desc, result);
    }
}
static inline uint32_t irq_noted(const struct irq_desc *desc) // since the count began
{
    return desc->spurious_window + (uint32_t)desc->spurious_count;
}
static inline void irq_note_anew(struct irq_desc *desc)
{
    desc->spurious_window = desc->unhandled = desc->nobodys = 0;
    desc->spurious_count = 0;
}
// Asks the handlers of every shut line whether their device wants something; with `all`, of every
// line. Lets a line come back where that is the policy. True while a line is shut.
// Context: thread or softirq, interrupts on.
bool irq_poll_lines(bool all);
// Told when a line was shut: tied by kernel/defer/line_poll.c, which polls from then on. Hard irq.
extern void (*irq_killed_hook)(void);

// Takes the action with this dev_id off an irq, as free_irq does, and puts it on another (the same
// device's, which interrupts in another way from now on), whole, with its counts. detach: NULL when
// there is none; an action with a thread stays, as the thread bears the irq's number. attach: 0 or
// what request_irq says, and the action is then on no irq. In between the device must be able to
// keep its event. Context: thread.
struct irqaction *irq_detach_action(unsigned irq, const void *dev_id);
int irq_attach_action(unsigned irq, struct irqaction *action);
// After that: calls the handlers once, as for an interrupt, to see what came meanwhile. Context:
// thread or atomic.
void irq_replay(unsigned irq);
// Programs controller and CPU for an irq anew, as the descriptor says: vector, CPU, trigger, mask;
// ends what its CPU has in service without a handler at it; forgets what was unhandled, and opens a
// line that was shut for it. 0, -ENXIO: it is not started. Context: thread.
int irq_reprogram(unsigned irq);
// A handler whose dev_id lies in this memory: its dev_id, with the irq and the handler's name;
// NULL: none. For a check before the memory is freed. Context: any.
void *irq_find_dev_id(const void *start, size_t size, unsigned *irq, const char **name);

// Walks the action list; feeds the spurious detector. Lets go of desc->lock around the handlers,
// in_progress says so meanwhile. Returns what the handlers said. Context: desc->lock held.
irqreturn_t irq_handle_actions(struct irq_desc *desc);

// Vectors and system interrupts (those without a descriptor: timer, IPIs, error, spurious), counted
// in rows of their own.
enum irq_stat {
    IRQ_STAT_NMI,
    IRQ_STAT_LOC,
    IRQ_STAT_SPU,
    IRQ_STAT_PMI,
    IRQ_STAT_IWI,
    IRQ_STAT_RTR,
    IRQ_STAT_RES,
    IRQ_STAT_CAL,
    IRQ_STAT_TLB,
    IRQ_STAT_TRM,
    IRQ_STAT_THR,
    IRQ_STAT_MCE,
    IRQ_STAT_MCP,
    IRQ_STAT_COUNT,
};
void irq_stat_inc(enum irq_stat stat); // this CPU
uint32_t irq_stat_get(enum irq_stat stat, unsigned cpu);
uint64_t irq_total(unsigned cpu); // every interrupt that this CPU took
extern uint32_t irq_err_count;    // A: ERR row: vectors nobody asked for

// A function for a system vector; `stat` is counted before it runs, EOI is sent before it runs.
// fn runs as a hard irq. Context: any.
void irq_set_system_vector(uint8_t vector, enum irq_stat stat, void (*fn)(void));
