// How many have a pointer to an object; the last one to let go frees it.
//
//     struct edu { struct kref ref; ... };
//
//     kref_init(&edu->ref);                  1: the maker's
//     kref_get(&edu->ref);                   for each further pointer, while one is held
//     kref_put(&edu->ref, edu_release);      when a pointer is given up; edu_release(ref) frees
//
// A pointer found in a list is not yet a reference: the object may be on its way out. There,
// kref_get_unless_zero(), under the lock that the maker takes to unlink it. A count that was let go
// too often, or that would wrap, sticks at its end with a warning: a leak, instead of memory that
// is used after it was freed. Names and meaning are Linux's. Context: any; release's is the
// caller's.
#pragma once

#include <core/panic.h>
#include <lib/types.h>

struct kref {
    uint32_t count; // A
};

#define KREF_STUCK 0x80000000u // from here on it is wrong, and stays

static inline void kref_init(struct kref *kref)
{
    __atomic_store_n(&kref->count, 1, __ATOMIC_RELAXED);
}

static inline unsigned kref_read(const struct kref *kref)
{
    return __atomic_load_n(&kref->count, __ATOMIC_RELAXED);
}

static inline void kref_get(struct kref *kref)
{
    uint32_t before = __atomic_fetch_add(&kref->count, 1, __ATOMIC_RELAXED);

    if (WARN_ON(before == 0 || before >= KREF_STUCK)) { // it was freed, or is about to be
        __atomic_store_n(&kref->count, KREF_STUCK, __ATOMIC_RELAXED);
    }
}

static inline bool kref_get_unless_zero(struct kref *kref) __must_check;
static inline bool kref_get_unless_zero(struct kref *kref)
{
    uint32_t count = kref_read(kref);

    while (count != 0 && count < KREF_STUCK) {
        if (__atomic_compare_exchange_n(&kref->count, &count, count + 1, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

// True when this was the last one and release was called.
static inline bool kref_put(struct kref *kref, void (*release)(struct kref *kref))
{
    uint32_t before = __atomic_fetch_sub(&kref->count, 1, __ATOMIC_ACQ_REL);

    if (WARN_ON(before == 0 || before >= KREF_STUCK)) {
        __atomic_store_n(&kref->count, KREF_STUCK, __ATOMIC_RELAXED);
        return false;
    }
    if (before == 1) {
        release(kref);
        return true;
    }
    return false;
}
