// What the DMA checker says: one report for each mistake, with both call sites where there are two.
//
//   DMA-API: mapped although a device owns it already: DEVICE [ADDRESS, +BYTES) DIRECTION by WHO
//   DMA-API:   mapped: DEVICE [ADDRESS, +BYTES) DIRECTION by WHO          the mapping in the way
//
// Context: any, no lock of debug.c held. Previous: kernel/dma/debug.c.
#include <lib/text.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <dma/dma.h>

#include "debug.h"

enum { DEBUG_REPORTS = 128 }; // that are printed in a second; all are counted

static uint64_t dma_errors; // A

uint64_t dma_debug_errors(void)
{
    return __atomic_load_n(&dma_errors, __ATOMIC_RELAXED);
}

static const char *const dma_direction_names[] = {"bidirectional", "to-device", "from-device"};

const char *dma_debug_kind(const struct dma_use *use)
{
    return use->coherent ? "coherent" : dma_direction_names[use->direction % 3];
}

static void dma_describe(struct text *t, const struct dma_use *use)
{
    text_printf(t, "%s [%#llx, +%llu) %s by ", use->dev->name, (unsigned long long)use->bus,
                (unsigned long long)use->size, dma_debug_kind(use));
    text_symbol(t, (uintptr_t)use->caller);
}

// A driver that is wrong with every packet must not drown the log.
static bool dma_may_report(void)
{
    static uint64_t second;  // A
    static uint32_t printed; // A: in that second
    uint64_t now = clock_ns() / 1000000000;

    if (__atomic_exchange_n(&second, now, __ATOMIC_RELAXED) != now) {
        __atomic_store_n(&printed, 0, __ATOMIC_RELAXED);
    }
    return __atomic_fetch_add(&printed, 1, __ATOMIC_RELAXED) < DEBUG_REPORTS;
}

__noinline void dma_debug_report(const struct dma_use *use, const char *what,
                                 const struct dma_use *other)
{
    char buffer[400];
    struct text t = TEXT_INIT(buffer);

    __atomic_fetch_add(&dma_errors, 1, __ATOMIC_RELAXED);
    if (!dma_may_report()) {
        return;
    }
    dma_describe(&t, use);
    pr_err("DMA-API: %s: %s", what, buffer);
    if (other != NULL) {
        text_init(&t, buffer, sizeof(buffer));
        dma_describe(&t, other);
        pr_err("DMA-API:   mapped: %s", buffer);
    }
    warn_at(__FILE__, __LINE__, "DMA is used wrongly");
}

void dma_debug_refuse(const struct dma_use *use, const char *what)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);

    text_printf(&t, "refused, the memory %s", what);
    dma_debug_report(use, buffer, NULL);
}
