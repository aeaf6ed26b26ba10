// Measured values, and what of them is told: the smallest, the median, the 99th percentile, the
// largest. Never the mean: one vCPU that the host put to sleep would be all that it says.
// Context: any; the caller guards and provides the memory.
#pragma once

#include <lib/types.h>

struct samples {
    uint64_t *values;
    size_t size;  // values that there is room for
    size_t count; // values in it
};

// Adds a value; false when it is full and the value was left out.
bool samples_add(struct samples *s, uint64_t value);
// Sorts them, smallest first; needs no memory, and n log n steps for any input.
void samples_sort(struct samples *s);
// Of sorted samples: the smallest value that at least per_mille of 1000 are not above (nearest
// rank): 0 the smallest, 500 the median, 990, 1000 the largest. 0 when there is none.
uint64_t samples_rank(const struct samples *s, unsigned per_mille);

static inline uint64_t samples_min(const struct samples *s)
{
    return samples_rank(s, 0);
}

static inline uint64_t samples_median(const struct samples *s)
{
    return samples_rank(s, 500);
}

static inline uint64_t samples_p99(const struct samples *s)
{
    return samples_rank(s, 990);
}

static inline uint64_t samples_max(const struct samples *s)
{
    return samples_rank(s, 1000);
}
