// From scan codes to the bytes that a terminal would send: pure, tested on the host.
#pragma once

#include <lib/types.h>

enum { KEYMAP_MAX_BYTES = 8 }; // that one key sends

struct keymap {
    bool left_shift, right_shift, left_control, right_control, left_alt, right_alt, caps_lock;
    bool extended; // 0xe0 came before
    unsigned skip; // bytes of a Pause key (0xe1 ...) that are still to come
    bool set2;     // the controller does not translate: codes of set 2, with 0xf0 before a release
    bool set2_break; // 0xf0 came before
};

// Takes one byte from the keyboard; returns how many bytes it types, in `to`.
size_t keymap_decode(struct keymap *map, uint8_t code, char to[KEYMAP_MAX_BYTES]);
