// What to read, and how far ahead: page_cache_ra.c decides, page_cache.c reads. Pure.
#pragma once

#include <lib/types.h>
#include <dev/page_cache.h>

struct ra_window {
    uint64_t start;  // the first page to read
    uint32_t size;   // how many
    uint64_t marker; // the page whose first reader asks for the next window; UINT64_MAX: none
};

// A reader wants `count` pages from `index` on, and the first is not there.
struct ra_window ra_on_miss(struct file_ra_state *ra, uint64_t index, uint32_t count, uint32_t max);
// It came to a marked page; `hole` is the first page behind it that is not there.
struct ra_window ra_on_marker(struct file_ra_state *ra, uint64_t index, uint32_t count,
                              uint64_t hole, uint32_t max);
