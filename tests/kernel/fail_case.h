// What the tests share that let an allocation fail.
#pragma once

#include "../../kernel/mm/internal.h"

// Lets the number-th allocation from here on fail.
static inline void fail_start(uint32_t number)
{
    __atomic_store_n(&fail_countdown, number, __ATOMIC_RELAXED);
}

// No more of that. True: it came to it.
static inline bool fail_stop(void)
{
    return __atomic_exchange_n(&fail_countdown, 0, __ATOMIC_RELAXED) == 0;
}
