// What a kind of screen can do, for screen.c: VGA text and framebuffer.
#pragma once

#include <contract/boot_info.h>

struct screen_ops {
    const char *name;
    // Finds it; false when it is not there. Fills in how many characters it shows.
    bool (*probe)(const struct boot_framebuffer *fb, unsigned *columns, unsigned *rows);
    // Shows one cell (drivers/char/vt.h). Context: any.
    void (*draw)(unsigned column, unsigned row, uint16_t cell);
};

extern const struct screen_ops screen_vga_text; // text.c
extern const struct screen_ops screen_fbcon;    // fbcon.c
