// Measured values, sorted in place by heap sort: no memory, no recursion, no worst case.
//
// Context: any.
#include <lib/samples.h>

bool samples_add(struct samples *s, uint64_t value)
{
    if (s->count >= s->size) {
        return false;
    }
    s->values[s->count++] = value;
    return true;
}

// Lets the value at `at` sink until none of its children in [0, count) is larger.
static void samples_sink(uint64_t *values, size_t at, size_t count)
{
    uint64_t value = values[at];

    for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && values[child + 1] > values[child]) {
            child++;
        }
        if (values[child] <= value) {
            break;
        }
        values[at] = values[child];
        at = child;
    }
    values[at] = value;
}

void samples_sort(struct samples *s)
{
    for (size_t at = s->count / 2; at > 0; at--) {
        samples_sink(s->values, at - 1, s->count);
    }
    for (size_t left = s->count; left > 1; left--) { // the largest goes behind the heap
        uint64_t largest = s->values[0];

        s->values[0] = s->values[left - 1];
        s->values[left - 1] = largest;
        samples_sink(s->values, 0, left - 1);
    }
}

uint64_t samples_rank(const struct samples *s, unsigned per_mille)
{
    if (s->count == 0) {
        return 0;
    }
    size_t rank = (s->count * per_mille + 999) / 1000; // 1: the smallest

    return s->values[rank > 0 ? min(rank, s->count) - 1 : 0];
}
