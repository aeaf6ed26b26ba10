// What the tests of the slab caches share: pretended CPUs, and the caches, included over the page
// allocator (page_case.h) so that each test starts them afresh. A CPU is who %gs says it is: the
// tests move from one to another. Interrupts cannot be switched off in a process; they are counted
// instead.
//
// Before it: _GNU_SOURCE. The includer links what page_case.h asks for, the stub resource.c, and
// kernel/lib/cpumask.c kernel/lib/string.c.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <core/cpu.h>
#include <core/panic.h>

static unsigned irqs_off_depth;

static inline unsigned long host_irq_save(void)
{
    return irqs_off_depth++ == 0 ? CPU_FLAGS_IF : 0;
}

static inline void host_irq_restore(unsigned long flags)
{
    irqs_off_depth--;
    assert((irqs_off_depth == 0) == (flags == CPU_FLAGS_IF));
}
#define local_irq_save    host_irq_save
#define local_irq_restore host_irq_restore

#include "page_case.h"

#include "kernel/mm/slab.c"
#include "kernel/mm/slab_cache.c"
#include "kernel/mm/slab_mark.c"
#include "kernel/mm/slab_pages.c"
#include "kernel/mm/slab_show.c"

IMAGE_TEXT(__executable_start, etext); // what counts as an address of code: the test's own

struct cpu cpus[MAX_CPUS];
unsigned cpu_count = 4;

void text_symbol(struct text *t, uintptr_t address)
{
    text_printf(t, "%#lx", (unsigned long)address);
}

static inline void on_cpu(unsigned cpu)
{
    cpus[cpu].id = cpu;
    cpus[cpu].self = &cpus[cpu];
    on_cpu_at(&cpus[cpu]);
}

// A machine with so much RAM beside its image.
static inline void start(uint64_t ram)
{
    page_machine();
    add(IMAGE_START, IMAGE_END - IMAGE_START + ram, RAM);
    memset(slab_cpus, 0, sizeof(slab_cpus));
    memset(slab_caches, 0, sizeof(slab_caches));
    slab_page_bytes = 0;
    irqs_off_depth = 0;
    on_cpu(0);
    page_init(&boot);
    slab_init();
    stub_log_clear();
}

static inline int reset(void **state)
{
    (void)state;
    slab_debug = SLAB_DEBUG_QUICK;
    start(64 * MIB);
    return 0;
}

static inline int healthy(void **state)
{
    (void)state;
    assert_int_equal(slab_selfcheck(), 0);
    assert_int_equal(page_selfcheck(), 0);
    assert_int_equal(irqs_off_depth, 0);
    return 0;
}

static inline void reported(const char *what)
{
    assert_int_equal(warn_count, 1);
    if (strstr(stub_log(), what) == NULL) {
        fail_msg("'%s' does not say '%s'", stub_log(), what);
    }
    warn_count = 0;
    stub_log_clear();
}

// Everything that CPUs sit on goes back to the slabs.
static inline void drain_all(void)
{
    for (unsigned i = 0; i < SLAB_CACHES; i++) {
        if (slab_caches[i] != NULL) {
            cache_drain(slab_caches[i]);
        }
    }
    cache_drain(slab_meta_cache); // last: deleting slabs filled its magazine again
}
