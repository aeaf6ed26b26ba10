// The arithmetic of the timer wheel: see wheel.h for the picture.
//
// With `now` the next tick to serve, level n's slot for a tick t is bits [6n, 6n+6) of t. A timer
// goes to the lowest level n on which t and now differ by less than 64 slots: then no slot holds
// timers of two different rounds. When now reaches a multiple of 64^n, level n's slot for now is
// dealt out before the tick is served; its timers fall to lower levels, or are due.
#include <core/clock.h>

#include "wheel.h"

void wheel_init(struct wheel *wheel, uint32_t now)
{
    *wheel = (struct wheel){.now = now};
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            INIT_LIST_HEAD(&wheel->slots[level][slot]);
        }
    }
}

static unsigned wheel_slot(uint32_t tick, unsigned level)
{
    return tick >> (level * WHEEL_BITS) & (WHEEL_SLOTS - 1);
}

// How many slots of this level lie between now and a tick that is not past.
static uint32_t wheel_distance(const struct wheel *wheel, uint32_t tick, unsigned level)
{
    unsigned shift = level * WHEEL_BITS;

    return ((tick >> shift) - (wheel->now >> shift)) & (UINT32_MAX >> shift);
}

static void wheel_put(struct wheel *wheel, struct timer_list *timer)
{
    uint32_t tick = time_after(wheel->now, timer->expires) ? wheel->now : timer->expires;
    unsigned level = 0;

    while (wheel_distance(wheel, tick, level) >= WHEEL_SLOTS) {
        level++; // ends at the top level, where there are four slots in all
    }
    unsigned slot = wheel_slot(tick, level);
    wheel->occupied[level] |= BIT64(slot);
    list_add_tail(&timer->link, &wheel->slots[level][slot]);
}

void wheel_add(struct wheel *wheel, struct timer_list *timer)
{
    wheel->count++;
    wheel_put(wheel, timer);
}

// The last timer of a list was taken off: if the list is a slot, and not one of due timers, it is
// marked empty.
static void wheel_note_empty(struct wheel *wheel, const struct list_head *list)
{
    uintptr_t offset = (uintptr_t)list - (uintptr_t)wheel->slots;

    if (offset < sizeof(wheel->slots)) {
        unsigned slot = (unsigned)(offset / sizeof(*list));
        wheel->occupied[slot / WHEEL_SLOTS] &= ~BIT64(slot % WHEEL_SLOTS);
    }
}

void wheel_remove(struct wheel *wheel, struct timer_list *timer)
{
    const struct list_head *next = timer->link.next;

    wheel->count--;
    list_del(&timer->link);
    timer->link.next = NULL;
    if (next->next == next) {
        wheel_note_empty(wheel, next);
    }
}

void wheel_skip(struct wheel *wheel, uint32_t now)
{
    if (wheel->count == 0 && time_after(now, wheel->now)) {
        wheel->now = now;
    }
}

// Deals the slots that begin now to the levels below, from the top, so that one timer may fall
// through several.
static void wheel_deal(struct wheel *wheel)
{
    unsigned level = 1;

    while (level < WHEEL_LEVELS - 1 && wheel_slot(wheel->now, level) == 0) {
        level++;
    }
    for (; level > 0; level--) {
        unsigned slot = wheel_slot(wheel->now, level);
        LIST_HEAD(timers);

        wheel->occupied[level] &= ~BIT64(slot);
        list_splice_tail_init(&wheel->slots[level][slot], &timers);
        while (!list_empty(&timers)) {
            struct timer_list *timer = list_first_entry(&timers, struct timer_list, link);
            list_del(&timer->link);
            wheel_put(wheel, timer);
        }
    }
}

// The next tick, at or after now but not after `until`, at which an occupied slot begins on any
// level. One past `until` when there is none. The bits, turned so that now's slot is bit 0, tell
// the distance in slots.
static uint32_t wheel_next(const struct wheel *wheel, uint32_t until)
{
    uint32_t nearest = until - wheel->now + 1;

    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t bits = wheel->occupied[level];
        unsigned shift = level * WHEEL_BITS;
        unsigned slot = wheel_slot(wheel->now, level);

        if (bits != 0) {
            bits = bits >> slot | bits << (-slot & (WHEEL_SLOTS - 1));
            uint32_t begin = ((wheel->now >> shift) + (uint32_t)__builtin_ctzll(bits)) << shift;
            nearest = min(nearest, begin - wheel->now);
        }
    }
    return wheel->now + nearest;
}

bool wheel_has_work(const struct wheel *wheel, uint32_t until)
{
    return wheel->count != 0 && !time_after(wheel->now, until) &&
           wheel_next(wheel, until) != until + 1;
}

bool wheel_next_event(const struct wheel *wheel, uint32_t *at)
{
    uint32_t until = wheel->now + INT32_MAX;

    *at = wheel_next(wheel, until);
    return *at != until + 1;
}

void wheel_advance(struct wheel *wheel, uint32_t until, struct list_head *due)
{
    while (wheel->count != 0 && !time_after(wheel->now, until)) {
        wheel->now = wheel_next(wheel, until);
        if (wheel->now == until + 1) {
            return;
        }
        unsigned slot = wheel_slot(wheel->now, 0);
        if (slot == 0) {
            wheel_deal(wheel);
        }
        wheel->occupied[0] &= ~BIT64(slot);
        list_splice_tail_init(&wheel->slots[0][slot], due);
        wheel->now++;
    }
    wheel_skip(wheel, until + 1);
}

void wheel_for_each(struct wheel *wheel, void (*visit)(struct timer_list *timer, void *arg),
                    void *arg)
{
    struct timer_list *timer;

    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (uint64_t bits = wheel->occupied[level]; bits != 0; bits &= bits - 1) {
            list_for_each_entry (timer, &wheel->slots[level][__builtin_ctzll(bits)], link) {
                visit(timer, arg);
            }
        }
    }
}
