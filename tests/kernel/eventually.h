// Waiting in tests for what must come, however slow the machine: the bound, some 20 s of the
// three minutes that a test has, only detects a hang.
#pragma once

#include <sched/sleep.h>

#define EVENTUALLY(condition)                                                               \
    ({                                                                                      \
        for (unsigned eventually_ = 0; eventually_ < 2500 && !(condition); eventually_++) { \
            msleep(2);                                                                      \
        }                                                                                   \
        (condition);                                                                        \
    })
