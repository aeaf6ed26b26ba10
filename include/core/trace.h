// The flight recorder: a ring of events per CPU, always on, some twenty instructions an event. Each
// stop of an interrupt's way leaves one record, so /proc/trace tells the story of
// kernel/interrupt.c with cycles. Context: any.
#pragma once

#include <core/cpu.h>
#include <lib/types.h>

enum trace_event { // names as Linux's tracepoints where it has them: kernel/core/trace.c
    TRACE_NONE,
    TRACE_IRQ_NOTED,         // a: irq, b: vector: came while its handlers could not run
    TRACE_IRQ_HANDLER_ENTRY, // a: irq, b: address of the handler
    TRACE_IRQ_HANDLER_EXIT,  // a: irq, b: irqreturn
    TRACE_VECTOR_ENTRY,      // a: vector of the kernel's own: timer, message from another CPU
    TRACE_VECTOR_EXIT,
    TRACE_SOFTIRQ_RAISE, // a: softirq
    TRACE_SOFTIRQ_ENTRY,
    TRACE_SOFTIRQ_EXIT,
    TRACE_NAPI_POLL,     // a: work done, b: budget
    TRACE_TASKLET_ENTRY, // b: function
    TRACE_WORK_START,    // b: function
    TRACE_WORK_END,
    TRACE_WORK_INTENSIVE,
    TRACE_SCHED_SWITCH, // a: previous tid, b: next tid
    TRACE_SCHED_WAKEUP, // a: tid, b: CPU
    TRACE_TIMER,        // b: function
    TRACE_IPI,          // a: vector, b: CPU mask or target
    TRACE_EXCEPTION,    // a: vector, b: address
    TRACE_BLOCK_SUBMIT, // a: device, b: sector
    TRACE_BLOCK_DONE,
    TRACE_PAGE_CACHE_MISS, // a: device, b: page of the disk
    TRACE_PAGE_CACHE_FILL, // a: pages, b: the first: read, or failed
    TRACE_PAGE_CACHE_WRITTEN,
    TRACE_NET_RX, // a: bytes
    TRACE_NET_TX,
    TRACE_DMA_MAP, // a: bytes, b: bus address
    TRACE_DMA_UNMAP,
    TRACE_COUNT,
};
// Those without an `a`, and without a `b`: what has no name there (kernel/core/trace.c) is not
// written.
#define TRACE_WITHOUT_A                                                       \
    (BIT(TRACE_TASKLET_ENTRY) | BIT(TRACE_WORK_START) | BIT(TRACE_WORK_END) | \
     BIT(TRACE_WORK_INTENSIVE) | BIT(TRACE_TIMER))
#define TRACE_WITHOUT_B                                                            \
    (BIT(TRACE_VECTOR_ENTRY) | BIT(TRACE_VECTOR_EXIT) | BIT(TRACE_SOFTIRQ_RAISE) | \
     BIT(TRACE_SOFTIRQ_ENTRY) | BIT(TRACE_SOFTIRQ_EXIT) | BIT(TRACE_NET_RX) | BIT(TRACE_NET_TX))
_Static_assert(TRACE_COUNT <= 32, "a bit each");

struct trace_record {
    uint64_t tsc;
    uint8_t event; // enum trace_event
    // As far as the police is on, where it was written, as struct cpu says it: raw, to be quick.
    uint8_t rflags_high; // RFLAGS 8 .. 15
    bool want_resched;
    uint8_t preempt_off;
    uint32_t a;
    uint64_t b;
    uint64_t above_thread;
}; // a power of two: the way from a slot's number to its place is one shift

enum {
    TRACE_RECORD_SHIFT = 5,
    TRACE_RECORDS = 256, // as many as a byte can number, which then wraps by itself
    TRACE_BYTES = TRACE_RECORDS << TRACE_RECORD_SHIFT,
};
_Static_assert(sizeof(struct trace_record) == 1 << TRACE_RECORD_SHIFT, "a power of two");

struct trace_ring {
    struct trace_record records[TRACE_RECORDS]; // C
} __aligned(TRACE_BYTES);

#ifdef HOST_TEST // tests bring a recorder of their own (tests/host/stubs)

void trace(enum trace_event event, uint32_t a, uint64_t b);
static inline void trace_at(uint64_t tsc, enum trace_event event, uint32_t a, uint64_t b)
{
    (void)tsc;
    trace(event, a, b);
}

#else

// One instruction on this CPU's own counter draws the slot, so an interrupt cannot draw the same;
// while it is being filled a reader skips it.
//
//   cpu.trace_ring   address of the ring >> 5: the low byte is 0, as the ring is aligned to its
//                    size, and holds the step instead: 1, or 0 while records go to waste
//   cpu.trace_next   number of the next slot; added to itself, and found, in that byte
static __always_inline struct trace_record *trace_draw(void)
{
    uint64_t place = cpu_field(trace_ring);

    __asm__ volatile("xaddb %b0, %%gs:%c1; shl %2, %0"
                     : "+q"(place)
                     : "i"(offsetof(struct cpu, trace_next)), "i"(TRACE_RECORD_SHIFT)
                     : "memory", "cc");
    struct trace_record *record = (struct trace_record *)place;
    WRITE_ONCE(record->event, (uint8_t)TRACE_NONE);
    barrier();
    return record;
}

// As far as the police is on: no call, which the lean way would have to save registers for.
static __always_inline void trace_context(struct trace_record *record)
{
    record->rflags_high = (uint8_t)(local_irq_flags() >> 8);
    record->want_resched = cpu_field(want_resched);
    record->preempt_off = (uint8_t)cpu_field(preempt_off);
    record->above_thread = cpu_field(above_thread);
}

// For who has read the time stamp counter anyway.
static __always_inline void trace_at(uint64_t tsc, enum trace_event event, uint32_t a, uint64_t b)
{
    struct trace_record *record = trace_draw();

    record->tsc = tsc;
    if ((TRACE_WITHOUT_A & BIT(event)) == 0) {
        record->a = a;
    }
    if ((TRACE_WITHOUT_B & BIT(event)) == 0) {
        record->b = b;
    }
    if (unlikely(police_watches())) {
        trace_context(record);
    }
    barrier();
    WRITE_ONCE(record->event, (uint8_t)event);
}

static __always_inline void trace(enum trace_event event, uint32_t a, uint64_t b)
{
    trace_at(rdtsc(), event, a, b);
}

#endif

void trace_set_up(unsigned cpu); // before that CPU's first record. Context: boot
// Starts, or stops; the records stay. The boot starts it. Context: any.
void trace_enable(bool on);
