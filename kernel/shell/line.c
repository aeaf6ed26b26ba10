// The line editor: bytes from a keyboard in, a line of text out, and a terminal kept up to date
// between.
//
//   key ──> escape sequence? search? ──> what it means ──> text changes ──> line_screen.c shows it
//
// The bytes of a character (UTF-8) are shown together, when the last has come, and go together.
// Control bytes without a meaning are ignored. A line that does not fit is refused at Enter, not
// cut.
//
// Context: one thread at a time; pure. Next: line_screen.c, line_history.c.
#include <lib/string.h>
#include "line_internal.h"

enum { LINE_SEQUENCE_MAX = 16 }; // bytes of an escape sequence before we stop believing in it

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

void line_replace(struct line *l, const char *text)
{
    long length = strscpy(l->text, text, sizeof(l->text));
    l->length = length < 0 ? LINE_MAX : (unsigned)length;
    l->cursor = l->length;
    line_refresh(l, 0);
}

static void line_go(struct line *l, unsigned cursor)
{
    l->cursor = cursor;
    line_show_cursor(l);
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
