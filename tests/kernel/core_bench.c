// What the smallest parts cost, which everything else is made of.
#include <contract/bench.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <mm/slab.h>

enum { CORE_BENCH_LOOPS = 1000 };

BENCH(core, nothing, "the loop and the counter themselves")
{
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < CORE_BENCH_LOOPS; i++) {
            barrier();
        }
        bench_stop(bench, CORE_BENCH_LOOPS);
    }
}

BENCH(core, spin_lock_irqsave, "an uncontended spinlock taken and given")
{
    static DEFINE_SPINLOCK(lock);
    unsigned long flags;

    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < CORE_BENCH_LOOPS; i++) {
            spin_lock_irqsave(&lock, flags);
            spin_unlock_irqrestore(&lock, flags);
        }
        bench_stop(bench, CORE_BENCH_LOOPS);
    }
}

BENCH(mm, kmalloc, "kmalloc and kfree of 256 bytes")
{
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < CORE_BENCH_LOOPS; i++) {
            kfree(kmalloc(256, GFP_KERNEL));
        }
        bench_stop(bench, CORE_BENCH_LOOPS);
    }
}
