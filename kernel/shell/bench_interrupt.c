// What an interrupt costs, in instructions (`bench irq`, `make bench`).
//
//   t0  sti; nop | the CPU vectors | stub, spine, dispatch, flow | t1 handler | flow, spine | iretq | t2
//       `-------------------- to_handler ------------------------'                                   '
//       `------------------------------------ whole -------------------------------------------------'
//
// The interrupt waits in the local APIC while interrupts are off, so nothing but the CPU's own way
// in lies between STI and the stub. The handler does nothing else: what is counted is the kernel's
// share, the bookkeeping and the flight recorder's records included.
//
// Context: thread, of `bench`.
#include <contract/bench.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <x86/lapic.h>
#include <irq/soft_line.h>

enum { BENCH_IRQ_WAIT_US = 1000 * 1000 };

static uint64_t bench_irq_entered; // C: time stamp, first thing in the handler

static irqreturn_t bench_irq_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    bench_irq_entered = rdtsc();
    return IRQ_HANDLED;
}

// One interrupt. Time stamps before and after it; the handler has the third.
static bool bench_irq_once(uint8_t vector, uint64_t *before, uint64_t *after)
{
    unsigned long flags = local_irq_save();
    lapic_ipi_self(vector);
    bool waits = wait_until(lapic_irr_test(vector), BENCH_IRQ_WAIT_US);
    *before = rdtsc();
    __asm__ volatile("sti; nop" ::: "memory"); // taken behind the NOP: STI opens one later
    *after = rdtsc();
    local_irq_restore(flags);
    return waits;
}

static void bench_irq(struct bench_run *bench, bool whole)
{
    int irq = soft_line_open(bench_irq_handler, &bench_irq_entered, "bench");

    if (irq < 0) {
        BENCH_SKIP("no vector to be had");
    }
    bench_round(bench)
    {
        uint64_t before, after;
        if (!bench_irq_once(soft_line_vector(irq), &before, &after)) {
            bench->skip = "the local APIC does not deliver";
            break;
        }
        bench_add(bench, (whole ? after : bench_irq_entered) - before, 1);
    }
    soft_line_close(irq, &bench_irq_entered);
}

BENCH(irq, to_handler, "from STI to the driver's handler", .target = 100)
{
    bench_irq(bench, false);
}

BENCH(irq, whole, "an interrupt with an empty handler, through IRETQ", .target = 250)
{
    bench_irq(bench, true);
}
