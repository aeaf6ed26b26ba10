// Doubly linked lists threaded through the structs they link, as in Linux. The caller locks.
#pragma once

#include <lib/types.h>

struct list_head {
    struct list_head *next, *prev;
};

#define LIST_HEAD_INIT(name) \
    {                        \
        &(name), &(name)     \
    }
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)

static inline void INIT_LIST_HEAD(struct list_head *list)
{
    list->next = list;
    list->prev = list;
}

static inline bool list_empty(const struct list_head *head)
{
    return READ_ONCE(head->next) == head;
}

static inline void list_insert(struct list_head *item, struct list_head *prev,
                               struct list_head *next)
{
    next->prev = item;
    item->next = next;
    item->prev = prev;
    WRITE_ONCE(prev->next, item);
}

static inline void list_add(struct list_head *item, struct list_head *head)
{
    list_insert(item, head, head->next);
}

static inline void list_add_tail(struct list_head *item, struct list_head *head)
{
    list_insert(item, head->prev, head);
}

// Leaves the item poisoned: a second list_del faults at an address that says what happened.
static inline void list_del(struct list_head *item)
{
    item->next->prev = item->prev;
    WRITE_ONCE(item->prev->next, item->next);
    item->next = (struct list_head *)0xdead000000000100ul;
    item->prev = (struct list_head *)0xdead000000000122ul;
}

static inline void list_del_init(struct list_head *item)
{
    item->next->prev = item->prev;
    WRITE_ONCE(item->prev->next, item->next);
    INIT_LIST_HEAD(item);
}

// Moves all items of `from` to the end of `to`; `from` is empty afterwards.
static inline void list_splice_tail_init(struct list_head *from, struct list_head *to)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    INIT_LIST_HEAD(from);
}

#define list_entry(pointer, type, member)    container_of(pointer, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_first_entry_or_null(head, type, member) \
    (list_empty(head) ? NULL : list_first_entry(head, type, member))
#define list_next_entry(pos, member) list_entry((pos)->member.next, __typeof__(*(pos)), member)

#define list_for_each_entry(pos, head, member)                                           \
    for (pos = list_first_entry(head, __typeof__(*pos), member); &pos->member != (head); \
         pos = list_next_entry(pos, member))

// Survives the removal of `pos`.
#define list_for_each_entry_safe(pos, n, head, member)                                             \
    for (pos = list_first_entry(head, __typeof__(*pos), member), n = list_next_entry(pos, member); \
         &pos->member != (head); pos = n, n = list_next_entry(n, member))
