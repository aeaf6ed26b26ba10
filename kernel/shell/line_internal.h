// What the files of the line editor know of each other: line.c (keys and changes), line_screen.c
// (what the terminal shows), line_history.c (older lines, and the search for one).
#pragma once

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
};

// ---- line_screen.c: characters, cells, and the terminal's cursor --------------------------------

bool line_is_tail(char c); // a byte of a character, but not its first
// How many bytes a character has that begins with c; 1 for a byte that begins none (RFC 3629,
// section 3).
unsigned line_lead_length(char c);
unsigned line_previous(const struct line *l, unsigned byte); // where the one before begins
unsigned line_next(const struct line *l, unsigned byte);
void line_put_string(const struct line *l, const char *s);
// Puts the cursor at byte l->cursor.
void line_show_cursor(struct line *l);
// The text has changed from byte `from` on: shows it, and puts the cursor where it belongs.
void line_refresh(struct line *l, unsigned from);
// Leaves the line where it stands and goes below it.
void line_leave(struct line *l, const char *mark);

// ---- line_history.c -----------------------------------------------------------------------------

// Shows the n-th newest line of the history, 0: the one that is being typed.
void line_recall(struct line *l, unsigned n);
void line_search_begin(struct line *l);
// True when the key belongs to the search; any other ends it and is then done as always.
bool line_search_key(struct line *l, char key);

// ---- line.c -------------------------------------------------------------------------------------

void line_replace(struct line *l, const char *text);
