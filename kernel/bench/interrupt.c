// What an interrupt costs, in instructions (`bench irq`, `make bench`).
//
//   sti; nop | the CPU vectors | stub, spine, dispatch, flow | handler | flow, spine, iretq | ...
//            `----------------- to_handler ------------------'                              '
//            `------------------------------------ whole -----------------------------------'
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

enum { BENCH_IRQ_WAIT_US = 1000 * 1000, BENCH_IRQ_STICKS = 8 };

static uint64_t bench_irq_entered; // C: time stamp, first thing in the handler

static irqreturn_t bench_irq_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    bench_irq_entered = rdtsc();
    return IRQ_HANDLED;
}

// Two time stamps around STI and a NOP, with whatever the CPU takes in between.
static void bench_irq_open(uint64_t *before, uint64_t *after)
{
    __asm__ volatile("rdtsc; mov %%rax, %%rsi; sti; nop; rdtsc; mov %%rax, %0; cli"
                     : "=r"(*after), "=S"(*before)::"rax", "rdx", "memory");
    *after = *before + (uint32_t)(*after - *before); // the lower halves are enough for a difference
}

// What the same instructions take without an interrupt. Into some of these tries one may fall.
static uint64_t bench_irq_stick(void)
{
    uint64_t stick = UINT64_MAX;

    for (unsigned i = 0; i < BENCH_IRQ_STICKS; i++) {
        uint64_t before, after;
        unsigned long flags = local_irq_save();
        bench_irq_open(&before, &after);
        local_irq_restore(flags);
        stick = min(stick, after - before);
    }
    return stick;
}

// One interrupt: how long to the handler, and to the instruction behind the NOP again, without the
// stick's own length.
static bool bench_irq_once(uint8_t vector, uint64_t stick, uint64_t *to_handler, uint64_t *whole)
{
    uint64_t before, after;
    unsigned long flags = local_irq_save();

    lapic_ipi_self(vector);
    bool waits = wait_until(lapic_irr_test(vector), BENCH_IRQ_WAIT_US);
    bench_irq_open(&before, &after);
    local_irq_restore(flags);
    *whole = after - before - stick;
    *to_handler = (uint32_t)(bench_irq_entered - before) - stick;
    return waits;
}

static void bench_irq(struct bench_run *bench, bool all)
{
    int irq = soft_line_open(bench_irq_handler, &bench_irq_entered, "bench");

    if (irq < 0) {
        BENCH_SKIP("no vector to be had");
    }
    uint64_t stick = bench_irq_stick();
    bench_round(bench)
    {
        uint64_t to_handler = 0, whole = 0;

        if (!bench_irq_once(soft_line_vector(irq), stick, &to_handler, &whole)) {
            bench->skip = "the local APIC does not deliver";
            break;
        }
        bench_add(bench, all ? whole : to_handler, 1);
    }
    soft_line_close(irq, &bench_irq_entered);
}

BENCH(irq, to_handler, "from the CPU's vectoring to the driver's handler", .target = 100)
{
    bench_irq(bench, false);
}

BENCH(irq, whole, "an interrupt with an empty handler, through IRETQ", .target = 250)
{
    bench_irq(bench, true);
}
