// The terminal's half of the console: characters and a few control sequences move a cursor over a
// grid of cells. Showing the cells is somebody else's business (screen.c).
//
// Understood: CR, LF, BS, TAB, BEL (ignored) and ECMA-48's CUU CUD CUF CUB (A B C D), CUP (H), ED
// (J), EL (K), SGR (m) with the eight colours, bold and reverse. Other sequences are read to their
// end and ignored. Like every terminal since the VT100, a character in the last column leaves the
// cursor there until the next one comes.
//
// Context: one at a time; pure.
#include <lib/string.h>
#include "vt.h"

enum { VT_TAB = 8, VT_SEQUENCE_MAX = 24 };

void vt_init(struct vt *vt, vt_cell_t *cells, unsigned columns, unsigned rows)
{
    *vt = (struct vt){.cells = cells, .columns = columns, .rows = rows, .attribute = VT_NORMAL};
    for (unsigned i = 0; i < columns * rows; i++) {
        cells[i] = VT_BLANK;
    }
}

static vt_cell_t vt_blank(const struct vt *vt)
{
    return (vt_cell_t)(vt->attribute << 8 | ' ');
}

static void vt_fill(struct vt *vt, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        vt->cells[i] = vt_blank(vt);
    }
}

static void vt_line_feed(struct vt *vt)
{
    vt->wrap_pending = false;
    if (vt->row + 1 < vt->rows) {
        vt->row++;
        return;
    }
    unsigned last = (vt->rows - 1) * vt->columns;
    memmove(vt->cells, vt->cells + vt->columns, last * sizeof(vt_cell_t));
    vt_fill(vt, last, last + vt->columns);
}

static void vt_put(struct vt *vt, char c)
{
    if (vt->wrap_pending) {
        vt->column = 0;
        vt_line_feed(vt);
    }
    vt->cells[vt->row * vt->columns + vt->column] =
        (vt_cell_t)(vt->attribute << 8 | (unsigned char)c);
    if (vt->column + 1 < vt->columns) {
        vt->column++;
    } else {
        vt->wrap_pending = true;
    }
}

static void vt_control(struct vt *vt, char c)
{
    switch (c) {
    case '\n':
        vt_line_feed(vt);
        break;
    case '\r':
        vt->column = 0;
        vt->wrap_pending = false;
        break;
    case '\b':
        vt->column -= vt->column > 0 && !vt->wrap_pending;
        vt->wrap_pending = false;
        break;
    case '\t':
        vt->column = min((vt->column / VT_TAB + 1) * VT_TAB, vt->columns - 1);
        break;
    case '\033':
        vt->state = VT_ESCAPE;
        break;
    default:
        break;
    }
}

// SGR: one attribute. Colours in VGA's order, which has red and blue changed.
static void vt_attribute(struct vt *vt, unsigned value)
{
    static const uint8_t vga[8] = {0, 4, 2, 6, 1, 5, 3, 7};
    unsigned a = vt->attribute;
    if (value == 0) {
        a = VT_NORMAL;
    } else if (value == 1) {
        a |= 0x08;
    } else if (value == 7) {
        a = (a & 0x88) | (a & 7) << 4 | (a >> 4 & 7);
    } else if (value >= 30 && value <= 37) {
        a = (a & ~7u) | vga[value - 30];
    } else if (value >= 40 && value <= 47) {
        a = (a & ~0x70u) | (unsigned)vga[value - 40] << 4;
    } else if (value == 39 || value == 49) {
        a = value == 39 ? (a & ~7u) | 7 : a & ~0x70u;
    }
    vt->attribute = (uint8_t)a;
}

// ED and EL: what of [start, end) is erased, by the parameter: from the cursor on, up to the
// cursor, all.
static void vt_erase(struct vt *vt, unsigned start, unsigned end, unsigned how)
{
    unsigned at = vt->row * vt->columns + vt->column;
    vt_fill(vt, how == 0 ? at : start, how == 1 ? at + 1 : end);
}

static void vt_execute(struct vt *vt, char final)
{
    unsigned first = vt->parameters[0], count = max(first, 1u);
    unsigned start = vt->row * vt->columns;
    vt->wrap_pending = false;
    switch (final) {
    case 'A':
        vt->row -= min(count, vt->row);
        break;
    case 'B':
        vt->row = min(vt->row + count, vt->rows - 1);
        break;
    case 'C':
        vt->column = min(vt->column + count, vt->columns - 1);
        break;
    case 'D':
        vt->column -= min(count, vt->column);
        break;
    case 'H':
        vt->row = min(count, vt->rows) - 1;
        vt->column = min(max(vt->parameters[1], 1u), vt->columns) - 1;
        break;
    case 'J':
        vt_erase(vt, 0, vt->rows * vt->columns, first);
        break;
    case 'K':
        vt_erase(vt, start, start + vt->columns, first);
        break;
    case 'm':
        for (unsigned i = 0; i <= vt->parameter_count && i < ARRAY_SIZE(vt->parameters); i++) {
            vt_attribute(vt, vt->parameters[i]);
        }
        break;
    default:
        break;
    }
}

static void vt_sequence(struct vt *vt, char c)
{
    if (vt->state == VT_ESCAPE) {
        vt->state = c == '[' ? VT_CSI : VT_TEXT;
        memset(vt->parameters, 0, sizeof(vt->parameters));
        vt->parameter_count = 0;
        vt->length = 0;
        return;
    }
    if (c >= '@' || ++vt->length > VT_SEQUENCE_MAX) {
        vt->state = VT_TEXT;
        if (c >= '@') {
            vt_execute(vt, c);
        }
    } else if (c == ';') {
        vt->parameter_count++;
    } else if (c >= '0' && c <= '9' && vt->parameter_count < ARRAY_SIZE(vt->parameters)) {
        unsigned *p = &vt->parameters[vt->parameter_count];
        *p = min(*p * 10 + (unsigned)(c - '0'), 9999u);
    }
}

void vt_write(struct vt *vt, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = data[i];
        if ((unsigned char)c < ' ') {
            vt->state = VT_TEXT; // a control character ends a sequence that was not finished
            vt_control(vt, c);
        } else if (vt->state != VT_TEXT) {
            vt_sequence(vt, c);
        } else if ((unsigned char)c < 0x80) {
            vt_put(vt, c);
        } else if ((unsigned char)c >= 0xc0) {
            vt_put(
                vt,
                '?'); // a character of UTF-8 that has no glyph here; the bytes after it take no room
        }
    }
}
