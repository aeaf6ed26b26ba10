// A timer wheel: what is due in this tick, without looking at what is not. Pure, tested on the
// host.
//
//   level 0   64 slots of 1 tick       the next 64 ticks, exactly
//   level 1   64 slots of 64 ticks     the next 4,096
//   level 2   64 slots of 4,096        ...
//   level 5    4 slots of 2^30         the rest of 32 bits
//
// A timer lies in the slot of its expiry on the lowest level whose 64 slots reach that far. When
// level 0 has gone round once, the next slot of level 1 is dealt out again, and so on upwards: that
// keeps every timer exact to the tick. Ticks wrap at 2^32; all comparisons are by difference, so a
// timer may lie up to 2^31 - 1 ticks ahead.
//
// Context: the owner of the wheel locks.
#pragma once

#include <lib/list.h>
#include <lib/types.h>
#include <defer/timer.h>

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS, WHEEL_LEVELS = 6 };

struct wheel {
    uint32_t now;   // the next tick to be served; all before it are done
    unsigned count; // timers added and not removed, those moved to a list of due ones included
    uint64_t occupied[WHEEL_LEVELS]; // bit n: slot n is not empty
    struct list_head slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint32_t now);
// By timer->expires; one that is past is due in the next tick served.
void wheel_add(struct wheel *wheel, struct timer_list *timer);
// Leaves timer->link.next NULL: that is what timer_pending() looks at.
void wheel_remove(struct wheel *wheel, struct timer_list *timer);
// An empty wheel need not turn: jumps to `now`.
void wheel_skip(struct wheel *wheel, uint32_t now);
// Serves the ticks up to and including `until`: moves what is due to the end of `due`, in the order
// of the ticks. Such a timer still counts as added: take it with wheel_remove().
void wheel_advance(struct wheel *wheel, uint32_t until, struct list_head *due);
// Is there anything for wheel_advance(until) to do?
bool wheel_has_work(const struct wheel *wheel, uint32_t until);
// When wheel_advance() will next have something to do: at the latest when the first timer is due,
// at times a little before, to deal out a slot. False when no timer is on the wheel.
bool wheel_next_event(const struct wheel *wheel, uint32_t *at);
// Visits every timer on the wheel, level by level; not those moved to a list of due ones.
void wheel_for_each(struct wheel *wheel, void (*visit)(struct timer_list *timer, void *arg),
                    void *arg);
