// Makes allocations fail on purpose, so that what happens when memory runs out can be tried at every single place.
//
//   echo 7 > /proc/fail-alloc         the 7th allocation from now fails, once
//   echo every 10 > /proc/fail-alloc  every 10th does
//   echo 0 > /proc/fail-alloc         no more
//
// kmalloc and kmem_cache_alloc count, and so do pages asked for directly. Whoever allocates is hit, in whatever context:
// that is the point. A test counts up from 1 until a run is not hit any more; then each allocation in it has failed once.
//
// Context: any; writing: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/proc_file.h>

#include "internal.h"

bool fail_armed;
static uint32_t fail_countdown; // A: allocations to go
static uint32_t fail_every;     // A: what it starts with again; 0: once only
static uint64_t fail_count;     // A: how many failed so far

// Draws the next number; true when this allocation is to fail.
bool fail_draw(void)
{
    uint32_t left = __atomic_load_n(&fail_countdown, __ATOMIC_RELAXED);

    while (left > 0 && !__atomic_compare_exchange_n(&fail_countdown, &left, left - 1, false,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (left != 1) {
        return false;
    }
    __atomic_fetch_add(&fail_count, 1, __ATOMIC_RELAXED);
    uint32_t every = __atomic_load_n(&fail_every, __ATOMIC_RELAXED);
    __atomic_store_n(&fail_countdown, every, __ATOMIC_RELAXED);
    if (every == 0) {
        WRITE_ONCE(fail_armed, false);
    }
    return true;
}

static void fail_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "next %u\nevery %u\nfailed %llu\n", READ_ONCE(fail_countdown),
                READ_ONCE(fail_every), (unsigned long long)READ_ONCE(fail_count));
}

static int fail_write(const char *line, unsigned long index)
{
    bool every = str_starts(line, "every ");
    uint32_t number;

    (void)index;
    int err = kstrtou32(every ? line + strlen("every ") : line, 10, &number);
    if (err != 0) {
        return err;
    }
    WRITE_ONCE(fail_armed, false);
    __atomic_store_n(&fail_every, every ? number : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&fail_countdown, number, __ATOMIC_RELAXED);
    WRITE_ONCE(fail_armed, number != 0);
    return 0;
}
PROC_FILE_RW("fail-alloc", fail_show, fail_write);
