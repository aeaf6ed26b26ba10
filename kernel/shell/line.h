// One line of text and the person who types it: pure, tested and fuzzed on the host.
#pragma once

#include <lib/types.h>

enum {
    LINE_MAX = 1024, // bytes of a line; one more and it is refused
    LINE_PROMPT_MAX = 96,
    LINE_HISTORY = 64,
};

// The lines that were run, newest last; the same line twice in a row is kept once.
struct history {
    char lines[LINE_HISTORY][LINE_MAX + 1];
    unsigned count; // free-running: line n lies at n % LINE_HISTORY
};
void history_add(struct history *history, const char *line);
// The n-th newest (0: the last one); NULL when there is none.
const char *history_get(const struct history *history, unsigned n);

enum line_event {
    LINE_NOTHING,   // go on
    LINE_DONE,      // Enter: text is the line
    LINE_REFUSED,   // Enter after more than LINE_MAX bytes: there is nothing to run
    LINE_INTERRUPT, // ^C
    LINE_END,       // ^D on an empty line
    LINE_COMPLETE,  // Tab
};

struct line {
    // Set by the owner.
    char prompt[LINE_PROMPT_MAX];
    bool plain;       // no escape sequences: movement by backspace, the line never wraps
    unsigned columns; // where we wrap when not plain
    const struct history *history;
    void (*put)(const char *data, size_t size); // the screen; "\n" begins a new row

    char text[LINE_MAX + 1];
    unsigned length, cursor;
    bool too_long;   // more came than fits: refused at Enter
    char partial[4]; // bytes of a character whose end has not come
    unsigned partial_length;

    // What the terminal shows: prompt and text are one row of cells, wrapped at `columns`.
    bool shown;
    unsigned at;    // cell of the terminal's cursor
    unsigned cells; // cells that hold something

    char killed[LINE_MAX + 1]; // ^K ^U ^W; ^Y brings it back
    unsigned recall;           // 0: the line itself, n: the n-th newest of the history
    char edited[LINE_MAX + 1]; // the line itself, while an older one is shown
    bool searching;            // ^R
    char needle[64];
    char search_prompt[LINE_PROMPT_MAX];

    enum { LINE_TEXT, LINE_ESCAPE, LINE_CSI, LINE_SS3 } state;
    unsigned parameter, sequence_length;
    bool after_cr; // a LF that follows is part of the same line end
};

// Begins an empty line; the owner's part stays.
void line_begin(struct line *line);
// One byte from the keyboard.
enum line_event line_key(struct line *line, char key);
// Puts text in at the cursor, as if typed; false when it does not fit (nothing is put in).
bool line_insert(struct line *line, const char *text, size_t length);

// Takes the line off the terminal, leaving it at the start of an empty row, and puts it there
// again.
void line_hide(struct line *line);
void line_show(struct line *line);
