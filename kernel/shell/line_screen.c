// What the terminal shows of the line that is typed, and where its cursor is.
//
// The editor knows nothing of terminals but this model: prompt and text are one row of cells that
// wraps every `columns` cells, and the terminal's cursor is at one of them. Every change is made in
// the text first and then shown by four steps: move to a cell, write from there, blank what is left
// over, move to where the cursor belongs.
//
//   cells:   t o p h a l f #   e c h o   h e l l o
//            `--- prompt ---'  `----- text -----'
//                                  ^ cursor           at == prompt length + cursor
//
// In plain mode no escape sequence is written: the cursor goes back by backspaces and forward by
// writing what stands there, and the row never wraps, whatever the terminal makes of that.
// Otherwise movement is ECMA-48 (8.3.19 to 8.3.22 CUB, CUD, CUF, CUU; 8.3.39 ED), and we wrap by
// ourselves before the terminal does, so its own way of wrapping does not matter.
//
// Text is UTF-8, one cell a character (wide ones are taken for narrow). A byte that belongs to no
// character shows as '?' and is kept as it is.
//
// Context: one thread at a time; pure. Previous: line.c. Next: line_history.c.
#include <lib/format.h>
#include <lib/string.h>
#include "line_internal.h"

// ---- characters ---------------------------------------------------------------------------------

bool line_is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

unsigned line_lead_length(char c)
{
    unsigned char lead = (unsigned char)c;
    return lead < 0xc2 || lead > 0xf4 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

// Bytes of the character at `byte`: a whole one, or 1.
static unsigned line_char_length(const struct line *l, unsigned byte)
{
    unsigned length = line_lead_length(l->text[byte]);
    for (unsigned i = 1; i < length; i++) {
        if (byte + i >= l->length || !line_is_tail(l->text[byte + i])) {
            return 1;
        }
    }
    return length;
}

unsigned line_previous(const struct line *l, unsigned byte)
{
    for (unsigned length = 4; length > 1; length--) {
        if (byte >= length && line_char_length(l, byte - length) == length) {
            return byte - length;
        }
    }
    return byte == 0 ? 0 : byte - 1;
}

unsigned line_next(const struct line *l, unsigned byte)
{
    return byte >= l->length ? l->length : byte + line_char_length(l, byte);
}

// ---- cells --------------------------------------------------------------------------------------

static const char *line_prompt(const struct line *l)
{
    return l->searching ? l->search_prompt : l->prompt;
}

static unsigned line_prompt_length(const struct line *l)
{
    return (unsigned)strlen(line_prompt(l));
}

void line_put_string(const struct line *l, const char *s)
{
    l->put(s, strlen(s));
}

static void line_put_repeated(const struct line *l, char c, unsigned count)
{
    char chunk[32];
    memset(chunk, c, sizeof(chunk));
    for (; count > 0; count -= min(count, (unsigned)sizeof(chunk))) {
        l->put(chunk, min(count, (unsigned)sizeof(chunk)));
    }
}

// The cell where the character at `byte` is shown.
static unsigned line_cell_of(const struct line *l, unsigned byte)
{
    unsigned cell = line_prompt_length(l);
    for (unsigned at = 0; at < byte; at += line_char_length(l, at)) {
        cell++;
    }
    return cell;
}

// Writes one character where the terminal's cursor is, and wraps when the row is full.
static void line_put_cell(struct line *l, const char *bytes, unsigned length)
{
    bool shown = length > 1 || (*bytes >= ' ' && *bytes < KEY_DEL);
    l->put(shown ? bytes : "?", length);
    l->at++;
    l->cells = max(l->cells, l->at);
    if (!l->plain && l->at % l->columns == 0) {
        line_put_string(l, "\n");
    }
}

// Writes the cells [at, end) as they should be.
static void line_write_to(struct line *l, unsigned end)
{
    unsigned prompt = line_prompt_length(l), byte = 0;
    while (l->at < end && l->at < prompt) {
        line_put_cell(l, line_prompt(l) + l->at, 1);
    }
    for (unsigned cell = prompt; cell < l->at && byte < l->length; cell++) {
        byte += line_char_length(l, byte);
    }
    while (l->at < end && byte < l->length) {
        unsigned length = line_char_length(l, byte);
        line_put_cell(l, l->text + byte, length);
        byte += length;
    }
}

static void line_move_sequence(const struct line *l, unsigned count, char direction)
{
    char sequence[16];
    if (count != 0) {
        int length = snprintf(sequence, sizeof(sequence), "\033[%u%c", count, direction);
        l->put(sequence, (size_t)length);
    }
}

// Moves the terminal's cursor to a cell that is shown.
static void line_move(struct line *l, unsigned cell)
{
    if (l->plain) {
        line_put_repeated(l, '\b', l->at > cell ? l->at - cell : 0);
        line_write_to(l, cell);
        l->at = cell;
        return;
    }
    unsigned row = l->at / l->columns, to_row = cell / l->columns;
    unsigned column = l->at % l->columns, to_column = cell % l->columns;
    line_move_sequence(l, row > to_row ? row - to_row : 0, 'A');
    line_move_sequence(l, to_row > row ? to_row - row : 0, 'B');
    line_move_sequence(l, column > to_column ? column - to_column : 0, 'D');
    line_move_sequence(l, to_column > column ? to_column - column : 0, 'C');
    l->at = cell;
}

// Blanks everything from the terminal's cursor on.
static void line_blank_rest(struct line *l)
{
    if (l->cells <= l->at) {
        return;
    }
    if (l->plain) {
        unsigned left = l->cells - l->at;
        line_put_repeated(l, ' ', left);
        line_put_repeated(l, '\b', left);
    } else {
        line_put_string(l, "\033[J");
    }
    l->cells = l->at;
}

void line_show_cursor(struct line *l)
{
    line_move(l, line_cell_of(l, l->cursor));
}

void line_refresh(struct line *l, unsigned from)
{
    while (from > 0 && line_is_tail(l->text[from])) {
        from--; // it may have become a part of what stands before it
    }
    line_move(l, line_cell_of(l, from));
    line_write_to(l, line_cell_of(l, l->length));
    line_blank_rest(l);
    line_show_cursor(l);
}

void line_show(struct line *l)
{
    if (!l->shown) {
        l->shown = true;
        l->at = 0;
        l->cells = 0;
        line_write_to(l, line_cell_of(l, l->length));
        line_show_cursor(l);
    }
}

void line_hide(struct line *l)
{
    if (!l->shown) {
        return;
    }
    if (l->plain) {
        line_put_string(l, "\r");
        line_put_repeated(l, ' ', l->cells);
        line_put_string(l, "\r");
    } else {
        line_move(l, 0);
        line_blank_rest(l);
        line_put_string(l, "\r");
    }
    l->shown = false;
}

void line_leave(struct line *l, const char *mark)
{
    line_move(l, line_cell_of(l, l->length));
    line_put_string(l, mark);
    if (l->plain || l->at % l->columns != 0 || *mark != '\0' || l->at == 0) {
        line_put_string(l, "\n");
    }
    l->shown = false;
}
