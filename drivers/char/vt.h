// A screen of characters, and what text does to it: pure, tested on the host.
#pragma once

#include <lib/types.h>

// A cell as VGA text memory has it: character in the low byte, colours in the high one.
typedef uint16_t vt_cell_t;
enum { VT_NORMAL = 0x07, VT_BLANK = VT_NORMAL << 8 | ' ' };

struct vt {
    vt_cell_t *cells; // rows of columns
    unsigned columns, rows;
    unsigned column, row; // of the cursor
    bool wrap_pending;    // the last column was written: the next character begins a new row
    uint8_t attribute;
    enum { VT_TEXT, VT_ESCAPE, VT_CSI } state;
    unsigned parameters[4], parameter_count, length;
};

void vt_init(struct vt *vt, vt_cell_t *cells, unsigned columns, unsigned rows);
void vt_write(struct vt *vt, const char *data, size_t size);
