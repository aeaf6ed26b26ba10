// Waiting in tests for what must come, however slow the machine: the bound only detects a hang.
#pragma once

#include <sched/sleep.h>

#define EVENTUALLY(condition)                                                                \
    ({                                                                                       \
        for (unsigned eventually_ = 0; eventually_ < 10000 && !(condition); eventually_++) { \
            msleep(2);                                                                       \
        }                                                                                    \
        (condition);                                                                         \
    })
