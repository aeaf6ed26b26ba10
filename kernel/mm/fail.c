// Makes an allocation fail on purpose, so that what happens when memory runs out can be tried at
// every single place.
//
//   echo 7 > /proc/fail-alloc      the 7th allocation from now fails, once; 0: none
//
// kmalloc and kmem_cache_alloc count, and so do pages asked for directly. Whoever allocates is hit,
// in whatever context: that is the point. A test counts up from 1 until a run is not hit any more;
// then each allocation in it has failed once.
//
// Context: any; writing: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/proc_file.h>

#include "internal.h"

uint32_t fail_countdown;    // A: allocations to go; 0: none is to fail
static uint64_t fail_count; // A: how many failed so far

// Draws the next number; true when this allocation is to fail.
bool fail_draw(void)
{
    uint32_t left = __atomic_load_n(&fail_countdown, __ATOMIC_RELAXED);

    while (left > 0 && !__atomic_compare_exchange_n(&fail_countdown, &left, left - 1, false,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (left == 1) {
        __atomic_fetch_add(&fail_count, 1, __ATOMIC_RELAXED);
    }
    return left == 1;
}

static void fail_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "next %u\nfailed %llu\n", READ_ONCE(fail_countdown),
                (unsigned long long)READ_ONCE(fail_count));
}

static int fail_write(const char *line, unsigned long index)
{
    uint32_t number;
    int err = kstrtou32(line, 10, &number);

    (void)index;
    if (err == 0) {
        __atomic_store_n(&fail_countdown, number, __ATOMIC_RELAXED);
    }
    return err;
}
PROC_FILE_RW("fail-alloc", fail_show, fail_write);
