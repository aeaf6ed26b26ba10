// Read-ahead: guesses from what was read what will be, and reads that before it is asked for.
//
// A reader that goes on where it left off gets a window of pages instead of the one it wants. Some
// pages before the window's end one is marked; when the reader comes there, the next window, twice
// as large, is asked for, and arrives while the reader still has pages to copy. So a sequential
// reader waits for the disk once, at the start:
//
//   pages   0 1 2 3   4 5 6 7 8 9 a b   c d e f ...
//           M . . .   M . . . . . . .   M            M: marked
//           │         │
//           │         └─ read: 8 more are asked for, then 16, then 32, up to read_ahead
//           └─ miss: 4 are read, and waited for
//
// Who jumps about is left alone: a miss that continues nothing reads what it needs and no more, and
// leaves the state of a stream that was there as it is, so that a single look elsewhere does not
// end it.
//
// As described for Linux (mm/readahead.c's comment, and F. Wu et al., "On the design of a new Linux
// readahead framework", 2008); the sizes are its. What of it was left out: thrashing is not
// noticed.
//
// Context: any. Pure. Previous: page_cache_read.c. Next: page_cache_wb.c.
#include "page_cache_ra.h"

// The first window: four pages for who reads one at a time.
static uint32_t ra_first_size(uint32_t count, uint32_t max)
{
    uint32_t size = 1;

    while (size < count && size < max) {
        size *= 2;
    }
    if (size <= max / 32) {
        size *= 4;
    } else if (size <= max / 4) {
        size *= 2;
    } else {
        size = max;
    }
    return size;
}

static uint32_t ra_next_size(uint32_t size, uint32_t max)
{
    return size < max / 16 ? size * 4 : size <= max / 2 ? size * 2 : max;
}

static struct ra_window ra_window_of(const struct file_ra_state *ra)
{
    return (struct ra_window){
        .start = ra->start, .size = ra->size, .marker = ra->start + ra->size - ra->async_size};
}

static struct ra_window ra_go_on(struct file_ra_state *ra, uint64_t start, uint32_t size)
{
    ra->start = start;
    ra->size = size;
    ra->async_size = size; // the marker is the first: the window is consumed while the next is read
    return ra_window_of(ra);
}

struct ra_window ra_on_miss(struct file_ra_state *ra, uint64_t index, uint32_t count, uint32_t max)
{
    bool begins = index == 0 && ra->prev_index == UINT64_MAX;
    bool follows =
        ra->prev_index != UINT64_MAX && (index == ra->prev_index || index == ra->prev_index + 1);

    if (max == 0 || !(begins || follows || count > max)) {
        return (struct ra_window){.start = index, .size = count, .marker = UINT64_MAX};
    }
    if (ra->size != 0 &&
        index == ra->start + ra->size) { // it outran the window, or memory was short
        return ra_go_on(ra, index, ra_next_size(ra->size, max));
    }
    ra->start = index;
    ra->size = ra_first_size(count, max);
    ra->async_size = ra->size > count ? ra->size - count : ra->size;
    return ra_window_of(ra);
}

struct ra_window ra_on_marker(struct file_ra_state *ra, uint64_t index, uint32_t count,
                              uint64_t hole, uint32_t max)
{
    if (max == 0) {
        return (struct ra_window){.marker = UINT64_MAX};
    }
    if (ra->size != 0 && index == ra->start + ra->size - ra->async_size) {
        return ra_go_on(ra, ra->start + ra->size, ra_next_size(ra->size, max));
    }
    // Somebody else's mark: two readers of one disk, or one that came back. What lies before it is
    // as good a guess at the stream's window as there is.
    uint64_t ahead = hole - index + count;
    return ra_go_on(ra, hole, ra_next_size((uint32_t)min(ahead, (uint64_t)max), max));
}
