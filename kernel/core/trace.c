// The flight recorder: per CPU a ring of the last TRACE_RECORDS events. Writers never wait: a slot
// is drawn with one addition by the CPU that owns the ring (an interrupt between draw and fill
// leaves its own, later slots), and old records are overwritten. A reader may therefore see a
// record being replaced: one without an event, or one that another time stamp has reached while it
// was read. It drops those, and what was written since it began. The writers' part is in line, in
// <core/trace.h>; this file shows what they left.
//
// Context: thread, for /proc/trace; trace_enable() any.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/trace.h>
#include <lib/errno.h>
#include <lib/string.h>

enum { TRACE_CPUS = 16 };

static struct trace_ring trace_rings[TRACE_CPUS]; // CPUs beyond have no ring: they are not recorded

// Names as Linux's tracepoints; name_a and name_b say what the two values are.
static const struct {
    const char *name;
    const char *name_a; // NULL: not shown
    const char *name_b; // "sym": an address
} trace_events[TRACE_COUNT] = {
    [TRACE_NONE] = {"none", NULL, NULL},
    [TRACE_IRQ_NOTED] = {"irq_noted", "irq", "vector"},
    [TRACE_IRQ_HANDLER_ENTRY] = {"irq_handler_entry", "irq", "sym"},
    [TRACE_IRQ_HANDLER_EXIT] = {"irq_handler_exit", "irq", "ret"},
    [TRACE_VECTOR_ENTRY] = {"vector_entry", "vector", NULL},
    [TRACE_VECTOR_EXIT] = {"vector_exit", "vector", NULL},
    [TRACE_SOFTIRQ_RAISE] = {"softirq_raise", "vec", NULL},
    [TRACE_SOFTIRQ_ENTRY] = {"softirq_entry", "vec", NULL},
    [TRACE_SOFTIRQ_EXIT] = {"softirq_exit", "vec", NULL},
    [TRACE_NAPI_POLL] = {"napi_poll", "work", "budget"},
    [TRACE_TASKLET_ENTRY] = {"tasklet_entry", NULL, "sym"},
    [TRACE_WORK_START] = {"workqueue_execute_start", NULL, "sym"},
    [TRACE_WORK_END] = {"workqueue_execute_end", NULL, "sym"},
    [TRACE_WORK_INTENSIVE] = {"workqueue_cpu_intensive", NULL, "sym"},
    [TRACE_SCHED_SWITCH] = {"sched_switch", "prev_pid", "next_pid"},
    [TRACE_SCHED_WAKEUP] = {"sched_wakeup", "pid", "target_cpu"},
    [TRACE_TIMER] = {"timer_expire_entry", NULL, "sym"},
    [TRACE_IPI] = {"ipi_send", "vector", "cpu"},
    [TRACE_EXCEPTION] = {"exception", "vector", "sym"},
    [TRACE_BLOCK_SUBMIT] = {"block_rq_issue", "dev", "sector"},
    [TRACE_BLOCK_DONE] = {"block_rq_complete", "dev", "sector"},
    [TRACE_PAGE_CACHE_MISS] = {"page_cache_miss", "dev", "page"},
    [TRACE_PAGE_CACHE_FILL] = {"page_cache_fill", "pages", "first"},
    [TRACE_PAGE_CACHE_WRITTEN] = {"page_cache_written", "pages", "first"},
    [TRACE_NET_RX] = {"netif_receive_skb", "len", NULL},
    [TRACE_NET_TX] = {"net_dev_xmit", "len", NULL},
    [TRACE_DMA_MAP] = {"dma_map", "size", "bus"},
    [TRACE_DMA_UNMAP] = {"dma_unmap", "size", "bus"},
};

// Where records go that nobody will read: those made while recording is off, and those of CPUs
// without a ring. To write one costs less than to ask each time whether it is wanted.
static struct trace_ring trace_waste;

// Records that go to waste draw no slot: the ring's own stay in order behind them.
static void trace_direct(unsigned cpu, bool on)
{
    bool kept = on && cpu < TRACE_CPUS;
    struct trace_ring *ring = kept ? &trace_rings[cpu] : &trace_waste;

    WRITE_ONCE(cpus[cpu].trace_ring, (uintptr_t)ring >> TRACE_RECORD_SHIFT | kept);
}

void trace_set_up(unsigned cpu)
{
    if (cpus[cpu].trace_ring == 0) { // the recorder may have been started before this CPU
        trace_direct(cpu, false);
    }
}

void trace_enable(bool on)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        trace_direct(cpu, on);
    }
}

// The letters of the context that a record was written in; dots when the police was off.
static void trace_letters(const struct trace_record *r, char letters[5])
{
    struct cpu then = {.above_thread = r->above_thread,
                       .preempt_off = r->preempt_off,
                       .want_resched = r->want_resched};
    bool irqs_off = police_on && (r->rflags_high & CPU_FLAGS_IF >> 8) == 0;

    cpu_context_letters(cpu_context_flags_of(&then, irqs_off), letters);
}

static void trace_show_record(struct text *t, unsigned cpu, const struct trace_record *r,
                              uint64_t previous_tsc)
{
    uint64_t us = clock_tsc_to_ns(r->tsc) / 1000;
    const char *name_a = trace_events[r->event].name_a;
    const char *name_b = trace_events[r->event].name_b;
    char context[5];

    trace_letters(r, context);
    text_printf(t, "[%03u] %s %6llu.%06llu +%-8llu %s:", cpu, context,
                (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000),
                (unsigned long long)(previous_tsc != 0 ? r->tsc - previous_tsc : 0),
                trace_events[r->event].name);
    if (name_a != NULL) {
        text_printf(t, " %s=%u", name_a, r->a);
    }
    if (name_b != NULL && strcmp(name_b, "sym") == 0) {
        text_putc(t, ' ');
        text_symbol(t, r->b);
    } else if (name_b != NULL) {
        text_printf(t, " %s=%#llx", name_b, (unsigned long long)r->b);
    }
    text_putc(t, '\n');
}

// Where the reader is in one ring.
struct trace_reader {
    const struct trace_ring *ring;
    uint8_t next;            // its next slot
    unsigned left;           // slots that it has not looked at
    uint64_t last_tsc;       // of the record before
    struct trace_record now; // the oldest that was not shown; event TRACE_NONE: there is none
};

// A copy of what was whole when it was read, and there when the reader began.
static bool trace_copy(const struct trace_record *from, uint64_t began_tsc, struct trace_record *r)
{
    r->event = READ_ONCE(from->event);
    barrier();
    uint64_t tsc = READ_ONCE(from->tsc);
    uint8_t event = r->event;

    *r = *from;
    barrier();
    return event != TRACE_NONE && event < TRACE_COUNT && READ_ONCE(from->event) == event &&
           r->event == event && r->tsc == tsc && READ_ONCE(from->tsc) == tsc && tsc <= began_tsc;
}

// Some who record share a look at the clock, and an interrupt may have come between look and
// record: but nothing that stands behind it in the ring came before it.
static void trace_read_next(struct trace_reader *reader, uint64_t began_tsc)
{
    bool whole = false;

    while (!whole && reader->left > 0) {
        whole = trace_copy(&reader->ring->records[reader->next++], began_tsc, &reader->now);
        reader->left--;
    }
    if (!whole) {
        reader->now.event = TRACE_NONE;
    }
    reader->now.tsc = max(reader->now.tsc, reader->last_tsc);
    reader->last_tsc = reader->now.tsc;
}

// Merges the rings by time, oldest first: repeatedly the oldest record not yet shown.
static void trace_show(struct text *t, unsigned long index)
{
    struct trace_reader readers[TRACE_CPUS];
    uint64_t began_tsc = rdtsc(), previous_tsc = 0;
    unsigned rings = min(cpu_count, (unsigned)TRACE_CPUS);

    (void)index;
    for (unsigned cpu = 0; cpu < rings; cpu++) {
        readers[cpu].ring = &trace_rings[cpu];
        readers[cpu].next = READ_ONCE(cpus[cpu].trace_next);
        readers[cpu].left = TRACE_RECORDS;
        readers[cpu].last_tsc = 0;
        trace_read_next(&readers[cpu], began_tsc);
    }
    text_puts(t, "# CPU context seconds     +cycles   event\n"
                 "#     irqs-off d, resched wanted N, hardirq h (H over a softirq) softirq s, "
                 "preemption off\n");
    for (;;) {
        struct trace_reader *best = NULL;

        for (unsigned cpu = 0; cpu < rings; cpu++) {
            if (readers[cpu].now.event != TRACE_NONE &&
                (best == NULL || readers[cpu].now.tsc < best->now.tsc)) {
                best = &readers[cpu];
            }
        }
        if (best == NULL) {
            break;
        }
        trace_show_record(t, (unsigned)(best - readers), &best->now, previous_tsc);
        previous_tsc = best->now.tsc;
        trace_read_next(best, began_tsc);
    }
}

static int trace_write(const char *line, unsigned long index)
{
    (void)index;
    if (strcmp(line, "0") != 0 && strcmp(line, "1") != 0) {
        return -EINVAL;
    }
    trace_enable(line[0] == '1');
    return 0;
}

PROC_FILE_RW("trace", trace_show, trace_write);
