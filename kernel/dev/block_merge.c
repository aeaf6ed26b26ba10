// Plug and merge: small requests that follow each other on the disk become one command.
//
//   blk_start_plug    the thread gets a list of its own, without a lock
//   blk_submit x 8    [ 0..7 ] <- 8..15 back merge   [ 24..31 ] <- 16..23 front merge ...
//   blk_finish_plug   what is left, one request or a few, goes to the queue under one lock, and the
//                     driver's doorbell is rung once, for the last
//
// A merged request is a chain: the one with the lowest sector first, the others hang at `merged`.
// The driver sees the sum (blk_rq_sectors, rq_for_each_segment); the makers are told one by one.
// When a chain fails it is taken apart and each part is tried alone (block_done.c), so that an
// error hits exactly who asked for the bad sector.
//
// A request that closes the gap between two joins both. Requests that wait for a free tag are
// merged too, at the end of the waiting list (block.c).
//
// Context: thread (plug); blk_merge: under the lock of whoever owns both. Previous: block.c.
#include <core/cpu.h>
#include <core/panic.h>
#include <sched/thread.h>
#include <dev/block.h>

#include "block_internal.h"

enum {
    PLUG_MAX = 64, // requests; then they go down anyway
    PLUG_LOOK = 2, // that a new one is compared with: a copy makes two rows in turn
};

static struct request *blk_last_part(struct request *request)
{
    while (request->merged != NULL) {
        request = request->merged;
    }
    return request;
}

// May the segments of two requests stand in one list? Where the hardware wants pages, the seam must
// be one.
static bool blk_seam_fits(const struct gendisk *whole, struct request *earlier,
                          const struct request *later)
{
    const struct request *part = blk_last_part(earlier);
    const struct blk_segment *last = &part->segments[part->segment_count - 1];
    uintptr_t end = (uintptr_t)last->data + last->length;
    return ((end | (uintptr_t)later->segments[0].data) & whole->virt_boundary) == 0;
}

bool blk_merge(struct request *earlier, struct request *later)
{
    const struct gendisk *whole = earlier->hctx->disk;
    if (earlier->op != later->op || earlier->op == REQ_OP_FLUSH || earlier->disk != later->disk ||
        earlier->hctx != later->hctx || earlier->pos + earlier->total_sectors != later->pos ||
        earlier->alone || later->alone ||
        earlier->total_sectors + later->total_sectors > whole->max_sectors ||
        (uint32_t)earlier->total_segments + later->total_segments > whole->max_segments ||
        !blk_seam_fits(whole, earlier, later)) {
        return false;
    }
    blk_last_part(earlier)->merged = later;
    earlier->total_sectors += later->total_sectors;
    earlier->total_segments = (uint16_t)(earlier->total_segments + later->total_segments);
    return true;
}

static void blk_count_merge(struct request *request)
{
    unsigned long flags;
    spin_lock_irqsave(&request->hctx->lock, flags);
    request->hctx->counts.merges[request->op]++;
    spin_unlock_irqrestore(&request->hctx->lock, flags);
    if (request->disk->whole != NULL) {
        __atomic_fetch_add(&request->disk->counts.merges[request->op], 1, __ATOMIC_RELAXED);
    }
}

// One that has grown may have closed the gap to its neighbour in the plug: then they are one.
// Returns which one stands there now.
static struct request *plug_join(struct blk_plug *plug, struct request *grown,
                                 struct list_head *neighbour)
{
    if (neighbour == &plug->requests) {
        return grown;
    }
    struct request *other = list_entry(neighbour, struct request, link);
    struct request *first = grown->pos < other->pos ? grown : other;
    struct request *second = first == grown ? other : grown;
    if (!blk_merge(first, second)) {
        return grown;
    }
    list_del(&second->link);
    plug->count--;
    blk_count_merge(second);
    return first;
}

static void plug_grown(struct blk_plug *plug, struct request *grown)
{
    blk_count_merge(grown);
    grown = plug_join(plug, grown, grown->link.next);
    plug_join(plug, grown, grown->link.prev);
}

// The new request goes behind `other`, or before it and takes its place. False: not these two.
static __noinline bool plug_merge_with(struct blk_plug *plug, struct request *other,
                                       struct request *request)
{
    if (blk_merge(other, request)) {
        plug_grown(plug, other);
        return true;
    }
    if (blk_merge(request, other)) {
        request->link = other->link;
        request->link.prev->next = &request->link;
        request->link.next->prev = &request->link;
        plug_grown(plug, request);
        return true;
    }
    return false;
}

// Looks at the newest few: what follows each other is mostly submitted so.
static inline bool plug_merge(struct blk_plug *plug, struct request *request)
{
    uint64_t start = request->pos, end = start + request->sectors;
    struct list_head *link = plug->requests.prev;
    for (unsigned i = 0; i < PLUG_LOOK && link != &plug->requests; i++, link = link->prev) {
        struct request *other = list_entry(link, struct request, link);
        bool touches = other->pos + other->total_sectors == start || other->pos == end;
        if (unlikely(touches) && plug_merge_with(plug, other, request)) {
            return true;
        }
    }
    return false;
}

// The requests of one queue, in order, without the others.
static void plug_take(struct blk_plug *plug, struct blk_mq_hw_ctx *hctx, struct list_head *same)
{
    struct request *request, *next;
    list_for_each_entry_safe (request, next, &plug->requests, link) {
        if (request->hctx == hctx) {
            list_del(&request->link);
            list_add_tail(&request->link, same);
        }
    }
}

// Hands everything down, a queue at a time. Most often there is only one.
static void plug_flush(struct blk_plug *plug)
{
    while (plug->has_others && !list_empty(&plug->requests)) {
        struct blk_mq_hw_ctx *hctx = list_first_entry(&plug->requests, struct request, link)->hctx;
        LIST_HEAD(same);
        plug_take(plug, hctx, &same);
        blk_enqueue_list(hctx, &same);
    }
    if (!list_empty(&plug->requests)) {
        blk_enqueue_list(plug->hctx, &plug->requests);
    }
    plug->has_others = false;
    plug->count = 0;
}

void blk_plug_add(struct blk_plug *plug, struct request *request)
{
    if (plug_merge(plug, request)) {
        return;
    }
    if (plug->count == 0) {
        plug->hctx = request->hctx;
    }
    plug->has_others |= request->hctx != plug->hctx;
    list_add_tail(&request->link, &plug->requests);
    if (++plug->count >= PLUG_MAX) {
        plug_flush(plug);
    }
}

void blk_start_plug(struct blk_plug *plug)
{
    police_might_sleep();
    assert_context(CTX_THREAD | CTX_ATOMIC);
    INIT_LIST_HEAD(&plug->requests);
    plug->has_others = false;
    plug->count = 0;
    plug->outer = current->plug;
    current->plug = plug;
}

void blk_finish_plug(struct blk_plug *plug)
{
    police_might_sleep();
    WARN_ON(current->plug != plug);
    current->plug = plug->outer;
    plug_flush(plug);
}
