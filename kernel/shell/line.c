// The line editor: bytes from a keyboard in, a line of text out, and a terminal kept up to date
// between.
//
// It knows nothing of terminals but this model: prompt and text are one row of cells that wraps
// every `columns` cells, and the terminal's cursor is at one of them. Every change is made in the
// text first and then shown by four steps: move to a cell, write from there, blank what is left
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
// Text is UTF-8, one cell a character (wide ones are taken for narrow). The bytes of a character
// are shown together, when the last has come, and go together. A byte that belongs to no character
// shows as '?' and is kept as it is; control bytes without a meaning are ignored.
//
// Context: one thread at a time; pure.
#include <lib/format.h>
#include <lib/string.h>
#include "line.h"

enum {
    KEY_A = 1,
    KEY_B = 2,
    KEY_C = 3,
    KEY_D = 4,
    KEY_E = 5,
    KEY_F = 6,
    KEY_G = 7,
    KEY_BS = 8,
    KEY_TAB = 9,
    KEY_LF = 10,
    KEY_K = 11,
    KEY_L = 12,
    KEY_CR = 13,
    KEY_N = 14,
    KEY_P = 16,
    KEY_R = 18,
    KEY_T = 20,
    KEY_U = 21,
    KEY_W = 23,
    KEY_Y = 25,
    KEY_ESC = 27,
    KEY_DEL = 127,
    LINE_SEQUENCE_MAX = 16, // bytes of an escape sequence before we stop believing in it
};

// ---- history ------------------------------------------------------------------------------------

void history_add(struct history *history, const char *line)
{
    const char *last = history_get(history, 0);
    if (*line == '\0' || (last && strcmp(last, line) == 0)) {
        return;
    }
    strscpy(history->lines[history->count++ % LINE_HISTORY], line, LINE_MAX + 1);
}

const char *history_get(const struct history *history, unsigned n)
{
    if (n >= history->count || n >= LINE_HISTORY) {
        return NULL;
    }
    return history->lines[(history->count - 1 - n) % LINE_HISTORY];
}

// ---- the terminal -------------------------------------------------------------------------------

static const char *line_prompt(const struct line *l)
{
    return l->searching ? l->search_prompt : l->prompt;
}

static unsigned line_prompt_length(const struct line *l)
{
    return (unsigned)strlen(line_prompt(l));
}

static void line_put_string(const struct line *l, const char *s)
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

static bool line_is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

// How many bytes a character has that begins with c; 1 for a byte that begins none (RFC 3629,
// section 3).
static unsigned line_lead_length(char c)
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

// Where the character before `byte` begins.
static unsigned line_previous(const struct line *l, unsigned byte)
{
    for (unsigned length = 4; length > 1; length--) {
        if (byte >= length && line_char_length(l, byte - length) == length) {
            return byte - length;
        }
    }
    return byte == 0 ? 0 : byte - 1;
}

static unsigned line_next(const struct line *l, unsigned byte)
{
    return byte >= l->length ? l->length : byte + line_char_length(l, byte);
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

// The text has changed from byte `from` on: shows it, and puts the cursor where it belongs.
static void line_refresh(struct line *l, unsigned from)
{
    while (from > 0 && line_is_tail(l->text[from])) {
        from--; // it may have become a part of what stands before it
    }
    line_move(l, line_cell_of(l, from));
    line_write_to(l, line_cell_of(l, l->length));
    line_blank_rest(l);
    line_move(l, line_cell_of(l, l->cursor));
}

void line_show(struct line *l)
{
    if (!l->shown) {
        l->shown = true;
        l->at = 0;
        l->cells = 0;
        line_write_to(l, line_cell_of(l, l->length));
        line_move(l, line_cell_of(l, l->cursor));
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

// Leaves the line where it stands and goes below it.
static void line_leave(struct line *l, const char *mark)
{
    line_move(l, line_cell_of(l, l->length));
    line_put_string(l, mark);
    if (l->plain || l->at % l->columns != 0 || *mark != '\0' || l->at == 0) {
        line_put_string(l, "\n");
    }
    l->shown = false;
}

// ---- changes ------------------------------------------------------------------------------------

void line_begin(struct line *l)
{
    l->length = 0;
    l->cursor = 0;
    l->text[0] = '\0';
    l->too_long = false;
    l->partial_length = 0;
    l->recall = 0;
    l->searching = false;
    l->state = LINE_TEXT;
    l->shown = false;
    line_show(l);
}

bool line_insert(struct line *l, const char *text, size_t length)
{
    if (length > LINE_MAX - l->length) {
        return false;
    }
    memmove(l->text + l->cursor + length, l->text + l->cursor, l->length - l->cursor + 1);
    memcpy(l->text + l->cursor, text, length);
    unsigned from = l->cursor;
    l->length += (unsigned)length;
    l->cursor += (unsigned)length;
    line_refresh(l, from);
    return true;
}

// Removes the bytes [from, to).
static void line_delete(struct line *l, unsigned from, unsigned to)
{
    memmove(l->text + from, l->text + to, l->length - to + 1);
    l->length -= to - from;
    l->cursor = from;
    line_refresh(l, from);
}

static void line_kill(struct line *l, unsigned from, unsigned to)
{
    if (to > from) {
        memcpy(l->killed, l->text + from, to - from);
        l->killed[to - from] = '\0';
        line_delete(l, from, to);
    }
}

static void line_replace(struct line *l, const char *text)
{
    long length = strscpy(l->text, text, sizeof(l->text));
    l->length = length < 0 ? LINE_MAX : (unsigned)length;
    l->cursor = l->length;
    line_refresh(l, 0);
}

static void line_go(struct line *l, unsigned cursor)
{
    l->cursor = cursor;
    line_move(l, line_cell_of(l, cursor));
}

static unsigned line_word_left(const struct line *l)
{
    unsigned at = l->cursor;
    while (at > 0 && l->text[at - 1] == ' ') {
        at--;
    }
    while (at > 0 && l->text[at - 1] != ' ') {
        at--;
    }
    return at;
}

static unsigned line_word_right(const struct line *l)
{
    unsigned at = l->cursor;
    while (at < l->length && l->text[at] == ' ') {
        at++;
    }
    while (at < l->length && l->text[at] != ' ') {
        at++;
    }
    return at;
}

// Shows the n-th newest line of the history, 0: the one that is being typed.
static void line_recall(struct line *l, unsigned n)
{
    const char *text = n == 0 ? l->edited : l->history ? history_get(l->history, n - 1) : NULL;
    if (!text || n == l->recall) {
        return;
    }
    if (l->recall == 0) {
        memcpy(l->edited, l->text, l->length + 1);
        text = n == 0 ? l->edited : text;
    }
    l->recall = n;
    line_replace(l, text);
}

// The two characters around the cursor, or the last two, change places.
static void line_transpose(struct line *l)
{
    unsigned right = l->cursor < l->length ? l->cursor : line_previous(l, l->length);
    unsigned left = line_previous(l, right), end = line_next(l, right);
    char saved[4];
    if (right == 0 || l->cursor == 0) {
        return;
    }
    memcpy(saved, l->text + left, right - left);
    memmove(l->text + left, l->text + right, end - right);
    memcpy(l->text + left + (end - right), saved, right - left);
    l->cursor = end;
    line_refresh(l, left);
}

static void line_clear_screen(struct line *l)
{
    line_hide(l);
    line_put_string(l, l->plain ? "\n" : "\033[H\033[2J");
    line_show(l);
}

// Puts in what has come of a character, whole or not.
static void line_flush_partial(struct line *l)
{
    if (l->partial_length != 0 && (l->too_long || !line_insert(l, l->partial, l->partial_length))) {
        l->too_long = true; // kept in mind until Enter; what is typed on is lost with the line
    }
    l->partial_length = 0;
}

static void line_type(struct line *l, char key)
{
    l->partial[l->partial_length++] = key;
    if (l->partial_length >= line_lead_length(l->partial[0])) {
        line_flush_partial(l);
    }
}

// ---- search -------------------------------------------------------------------------------------

static void line_search_show(struct line *l, const char *text)
{
    line_hide(l);
    if (text) {
        strscpy(l->text, text, sizeof(l->text));
        l->length = (unsigned)strlen(l->text);
        l->cursor = l->length;
    }
    snprintf(l->search_prompt, sizeof(l->search_prompt), "(search '%s'%s) ", l->needle,
             text || l->needle[0] == '\0' ? "" : ": none");
    line_show(l);
}

// The next older line than the n-th that holds the needle.
static void line_search_from(struct line *l, unsigned n)
{
    const char *text;
    for (; l->history && (text = history_get(l->history, n)) != NULL; n++) {
        if (strstr(text, l->needle)) {
            l->recall = n + 1;
            line_search_show(l, text);
            return;
        }
    }
    line_search_show(l, NULL);
}

static void line_search_begin(struct line *l)
{
    line_hide(l);
    memcpy(l->edited, l->text, l->length + 1);
    l->searching = true;
    l->recall = 0;
    l->needle[0] = '\0';
    line_search_show(l, l->text);
}

static void line_search_end(struct line *l)
{
    line_hide(l);
    l->searching = false;
    line_show(l);
}

// True when the key belongs to the search; any other ends it and is then done as always.
static bool line_search_key(struct line *l, char key)
{
    size_t length = strlen(l->needle);
    if (key == KEY_R) {
        line_search_from(l, l->recall);
    } else if ((key == KEY_BS || key == KEY_DEL) && length > 0) {
        l->needle[length - 1] = '\0';
        line_search_from(l, 0);
    } else if (key >= ' ' && key < KEY_DEL) {
        if (length + 1 < sizeof(l->needle)) {
            l->needle[length] = key;
            l->needle[length + 1] = '\0';
        }
        line_search_from(l, l->recall == 0 ? 0 : l->recall - 1);
    } else {
        line_search_end(l);
        if (key == KEY_G) {
            l->recall = 0;
            line_replace(l, l->edited);
            return true;
        }
        return false;
    }
    return true;
}

// ---- keys ---------------------------------------------------------------------------------------

static void line_cursor_key(struct line *l, char final)
{
    switch (final) {
    case 'A':
        line_recall(l, l->recall + 1);
        break;
    case 'B':
        line_recall(l, l->recall == 0 ? 0 : l->recall - 1);
        break;
    case 'C':
        line_go(l, line_next(l, l->cursor));
        break;
    case 'D':
        line_go(l, line_previous(l, l->cursor));
        break;
    case 'H':
        line_go(l, 0);
        break;
    case 'F':
        line_go(l, l->length);
        break;
    default:
        break;
    }
}

static void line_delete_right(struct line *l)
{
    if (l->cursor < l->length) {
        line_delete(l, l->cursor, line_next(l, l->cursor));
    }
}

// ESC [ parameter ~, as VT220 and its heirs send it.
static void line_tilde_key(struct line *l)
{
    switch (l->parameter) {
    case 1:
    case 7:
        line_go(l, 0);
        break;
    case 4:
    case 8:
        line_go(l, l->length);
        break;
    case 3:
        line_delete_right(l);
        break;
    default:
        break;
    }
}

// A byte inside an escape sequence. False: it does not belong there, the sequence is dropped and
// the byte stands for itself.
static bool line_sequence(struct line *l, char key)
{
    if (key < ' ' || key >= KEY_DEL || ++l->sequence_length > LINE_SEQUENCE_MAX) {
        l->state = LINE_TEXT;
        return false;
    }
    if (l->state == LINE_ESCAPE) {
        l->state = key == '[' ? LINE_CSI : key == 'O' ? LINE_SS3 : LINE_TEXT;
        if (key == 'b') {
            line_go(l, line_word_left(l));
        } else if (key == 'f') {
            line_go(l, line_word_right(l));
        } else if (key == 'd') {
            line_kill(l, l->cursor, line_word_right(l));
        }
        return true;
    }
    if (l->state == LINE_CSI && key < '@') {
        if (key >= '0' && key <= '9' && l->parameter < 1000) {
            l->parameter = l->parameter * 10 + (unsigned)(key - '0');
        }
        return true;
    }
    l->state = LINE_TEXT;
    if (key == '~') {
        line_tilde_key(l);
    } else {
        line_cursor_key(l, key);
    }
    return true;
}

static enum line_event line_enter(struct line *l)
{
    line_leave(l, "");
    return l->too_long ? LINE_REFUSED : LINE_DONE;
}

static enum line_event line_control_d(struct line *l)
{
    if (l->length != 0 || l->too_long) {
        line_delete_right(l);
        return LINE_NOTHING;
    }
    line_leave(l, "");
    return LINE_END;
}

// Keys that change the line or move in it.
static void line_edit_key(struct line *l, char key)
{
    switch (key) {
    case KEY_A:
        line_go(l, 0);
        break;
    case KEY_B:
        line_cursor_key(l, 'D');
        break;
    case KEY_E:
        line_go(l, l->length);
        break;
    case KEY_F:
        line_cursor_key(l, 'C');
        break;
    case KEY_BS:
    case KEY_DEL:
        line_delete(l, line_previous(l, l->cursor), l->cursor);
        break;
    case KEY_K:
        line_kill(l, l->cursor, l->length);
        break;
    case KEY_U:
        line_kill(l, 0, l->cursor);
        l->too_long = false;
        break;
    case KEY_W:
        line_kill(l, line_word_left(l), l->cursor);
        break;
    case KEY_Y:
        line_insert(l, l->killed, strlen(l->killed));
        break;
    case KEY_T:
        line_transpose(l);
        break;
    case KEY_L:
        line_clear_screen(l);
        break;
    case KEY_N:
        line_cursor_key(l, 'B');
        break;
    case KEY_P:
        line_cursor_key(l, 'A');
        break;
    case KEY_R:
        line_search_begin(l);
        break;
    default:
        if ((unsigned char)key >= ' ') {
            line_type(l, key);
        }
        break;
    }
}

enum line_event line_key(struct line *l, char key)
{
    bool after_cr = l->after_cr;
    l->after_cr = key == KEY_CR;
    line_show(l); // somebody may have taken it away
    if (!line_is_tail(key)) {
        line_flush_partial(l); // of a character that does not go on
    }
    if (l->state != LINE_TEXT && line_sequence(l, key)) {
        return LINE_NOTHING;
    }
    if (l->searching && line_search_key(l, key)) {
        return LINE_NOTHING;
    }
    switch (key) {
    case KEY_LF:
        return after_cr ? LINE_NOTHING : line_enter(l);
    case KEY_CR:
        return line_enter(l);
    case KEY_C:
        line_leave(l, "^C");
        return LINE_INTERRUPT;
    case KEY_D:
        return line_control_d(l);
    case KEY_TAB:
        return LINE_COMPLETE;
    case KEY_ESC:
        l->state = LINE_ESCAPE;
        l->parameter = 0;
        l->sequence_length = 0;
        return LINE_NOTHING;
    default:
        line_edit_key(l, key);
        return LINE_NOTHING;
    }
}
