// Sleeping by the clock. Context: thread.
#pragma once
#include <lib/types.h>

void msleep(uint32_t ms);              // at least ms
int msleep_interruptible(uint32_t ms); // 0, or -EINTR
