// Linker sets: how a high layer finds what a low one offers without either naming the other (law
// 1). A record is a const struct at the foot of the file that owns it; the linker collects all
// records of a set, sorted by name, between two symbols. Order never matters here: what has an
// order is written by hand in kernel/main.c.
#pragma once

#define LINKER_RECORD(set, type, name) \
    static const struct type name __attribute__((used, aligned(8), section(".set." #set "." #name)))

// Declares the bounds of a set, for the file that walks it.
#define LINKER_SET(set, type) extern const struct type set_##set##_start[], set_##set##_end[]

#define set_for_each(pos, set) for (pos = set_##set##_start; pos < set_##set##_end; pos++)

// The record of that name, or NULL. Needs <lib/string.h>.
#define set_find_by_name(set, wanted)               \
    ({                                              \
        const typeof(set_##set##_start[0]) *at_;    \
        set_for_each (at_, set) {                   \
            if (strcmp(at_->name, (wanted)) == 0) { \
                break;                              \
            }                                       \
        }                                           \
        at_ != set_##set##_end ? at_ : NULL;        \
    })

// For lists that people read: the record whose `name` follows `last` in the alphabet ("" for the
// first), NULL behind the last. Needs <lib/string.h>.
#define set_next_by_name(set, last)                                      \
    ({                                                                   \
        const typeof(set_##set##_start[0]) *at_, *best_ = NULL;          \
        set_for_each (at_, set) {                                        \
            if (strcmp(at_->name, (last)) > 0 &&                         \
                (best_ == NULL || strcmp(at_->name, best_->name) < 0)) { \
                best_ = at_;                                             \
            }                                                            \
        }                                                                \
        best_;                                                           \
    })
