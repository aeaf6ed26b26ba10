// Any bytes at the line editor: the text stays a string within its bounds, and where it is ASCII
// the terminal shows it.
//
// links: kernel/shell/line.c kernel/shell/line_screen.c kernel/shell/line_history.c
// links: drivers/char/vt.c kernel/lib/format.c kernel/lib/text.c kernel/lib/string.c tests/host/stubs/panic_abort.c

#include "drivers/char/vt.h"
#include "kernel/shell/line.h"

#include "fuzz.h"

enum { COLUMNS = 24, ROWS = 64 };

static struct line editor;
static struct history history;
static struct vt screen;
static vt_cell_t cells[COLUMNS * ROWS];

static void put(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        MUST(!editor.plain || data[i] != '\033');
        if (data[i] == '\n') {
            vt_write(&screen, "\r", 1);
        }
        vt_write(&screen, data + i, 1);
    }
}

static void check_text(void)
{
    MUST(editor.length <= LINE_MAX && editor.cursor <= editor.length);
    MUST(strlen(editor.text) == editor.length && strlen(editor.needle) < sizeof(editor.needle));
}

// Each line begins on a clear screen, so the cells are known.
static void check_screen(void)
{
    const char *prompt = editor.searching ? editor.search_prompt : editor.prompt;
    size_t length = strlen(prompt);
    for (const char *c = editor.text; *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80) {
            return;
        }
    }
    for (size_t i = 0; i < COLUMNS * (ROWS - 1) && i < length + editor.length; i++) {
        char c = i < length ? prompt[i] : editor.text[i - length];
        MUST((char)cells[i] == (c >= ' ' && c < 127 ? c : '?'));
    }
    MUST(screen.row * COLUMNS + screen.column == length + editor.cursor);
}

static void begin(void)
{
    vt_init(&screen, cells, COLUMNS, ROWS);
    line_begin(&editor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    memset(&editor, 0, sizeof(editor));
    memset(&history, 0, sizeof(history));
    strcpy(editor.prompt, "tophalf# ");
    editor.plain = data[0] & 1;
    editor.columns = COLUMNS;
    editor.history = &history;
    editor.put = put;
    begin();
    for (size_t i = 1; i < size; i++) {
        enum line_event event = line_key(&editor, (char)data[i]);
        check_text();
        if (event == LINE_COMPLETE) {
            line_insert(&editor, "completed", data[i - 1] % 9);
        } else if (event != LINE_NOTHING) {
            if (event == LINE_DONE) {
                history_add(&history, editor.text);
            }
            begin();
        } else if (data[i] == 12) {
            line_hide(&editor);
            vt_init(&screen, cells, COLUMNS, ROWS);
            line_show(&editor);
        }
        check_text();
        if (!editor.plain) {
            check_screen();
        }
    }
    return 0;
}
