// The line editor against a terminal: whatever is typed, the screen shows prompt and line, and the
// cursor is where the next letter goes.
//
// The terminal is drivers/char/vt.c, so the two halves of the console are tested against each
// other; its screen is small, to wrap often.
//
// links: kernel/shell/line.c kernel/shell/line_screen.c kernel/shell/line_history.c
// links: drivers/char/vt.c kernel/lib/format.c kernel/lib/text.c kernel/lib/string.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/char/vt.h"
#include "kernel/shell/line.h"

enum { COLUMNS = 20, ROWS = 60 };

static struct line editor;
static struct history history;
static struct vt screen;
static vt_cell_t cells[COLUMNS * ROWS];
static unsigned escapes; // ESC bytes that were written

static void put(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        escapes += data[i] == '\033';
        if (data[i] == '\n') {
            vt_write(&screen, "\r", 1);
        }
        vt_write(&screen, data + i, 1);
    }
}

static void begin(bool plain)
{
    vt_init(&screen, cells, COLUMNS, ROWS);
    memset(&editor, 0, sizeof(editor));
    strcpy(editor.prompt, "> ");
    editor.plain = plain;
    editor.columns = COLUMNS;
    editor.history = &history;
    editor.put = put;
    escapes = 0;
    line_begin(&editor);
}

static enum line_event keys(const char *typed)
{
    enum line_event event = LINE_NOTHING;
    for (; *typed != '\0' && event == LINE_NOTHING; typed++) {
        event = line_key(&editor, *typed);
    }
    assert_int_equal(*typed, '\0');
    return event;
}

static char shown(unsigned cell)
{
    return (char)cells[cell];
}

// The screen holds prompt and line and nothing else, and its cursor is the editor's.
static void check_screen(void)
{
    char expected[LINE_MAX + LINE_PROMPT_MAX] = "";
    strcat(expected, editor.searching ? editor.search_prompt : editor.prompt);
    unsigned prompt = (unsigned)strlen(expected);
    strcat(expected, editor.text);
    for (unsigned i = 0; i < COLUMNS * ROWS; i++) {
        char c = i < strlen(expected) ? expected[i] : ' ';
        assert_int_equal(shown(i), c);
    }
    assert_int_equal(screen.row * COLUMNS + screen.column, prompt + editor.cursor);
}

static void type_and_check(const char *typed, const char *text, unsigned cursor)
{
    assert_int_equal(keys(typed), LINE_NOTHING);
    assert_string_equal(editor.text, text);
    assert_int_equal(editor.length, strlen(text));
    assert_int_equal(editor.cursor, cursor);
    check_screen();
}

static void test_typing_and_enter(void **state)
{
    (void)state;
    begin(false);
    type_and_check("echo hello", "echo hello", 10);
    assert_int_equal(escapes, 0);
    assert_int_equal(keys("\r"), LINE_DONE);
    assert_string_equal(editor.text, "echo hello");
    assert_int_equal(screen.row, 1);
    assert_int_equal(screen.column, 0);
}

static void test_a_crlf_ends_one_line(void **state)
{
    (void)state;
    begin(false);
    assert_int_equal(keys("a\r"), LINE_DONE);
    line_begin(&editor);
    assert_int_equal(keys("\n"), LINE_NOTHING);
    assert_int_equal(keys("b\n"), LINE_DONE);
    assert_string_equal(editor.text, "b");
    line_begin(&editor);
    assert_int_equal(keys("\n"), LINE_DONE); // a LF after a LF is an empty line
    assert_string_equal(editor.text, "");
}

static void test_movement_and_deletion(void **state)
{
    (void)state;
    begin(false);
    type_and_check("abc def", "abc def", 7);
    type_and_check("\x02\x02", "abc def", 5); // ^B ^B
    type_and_check("X", "abc dXef", 6);
    type_and_check("\x7f", "abc def", 5);       // Backspace
    type_and_check("\x01", "abc def", 0);       // ^A
    type_and_check("\x7f", "abc def", 0);       // nothing before it
    type_and_check("\x04", "bc def", 0);        // ^D
    type_and_check("\033[3~", "c def", 0);      // Delete
    type_and_check("\033[C\033OC", "c def", 2); // right, right
    type_and_check("\x05", "c def", 5);         // ^E
    type_and_check("\x06", "c def", 5);         // nothing behind it
    type_and_check("\033[H", "c def", 0);       // Home
    type_and_check("\033[F", "c def", 5);       // End
    type_and_check("\x17", "c ", 2);            // ^W
    type_and_check("\x19", "c def", 5);         // ^Y
    type_and_check("\033b\x0b", "c ", 2);       // Alt-B ^K
    type_and_check("\x15", "", 0);              // ^U
    type_and_check("ab\x14", "ba", 2);          // ^T
    type_and_check("c\x02\x14", "bca", 3);
}

static void test_lines_wrap_and_shrink(void **state)
{
    (void)state;
    begin(false);
    char text[200] = "";
    for (int i = 0; i < 150; i++) {
        strcat(text, (char[]){(char)('a' + i % 26), '\0'});
        type_and_check((char[]){(char)('a' + i % 26), '\0'}, text, (unsigned)i + 1);
    }
    type_and_check("\x01", text, 0);
    memmove(text + 1, text, strlen(text) + 1);
    text[0] = '!';
    type_and_check("!", text, 1);
    for (int i = 0; i < 60; i++) {
        memmove(text + 1, text + 2, strlen(text + 1));
        type_and_check("\x04", text, 1);
    }
    type_and_check("\x05\x15", "", 0);
}

static void test_every_edit_in_every_column(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        for (unsigned length = 0; length <= 2 * COLUMNS + 2; length++) {
            for (unsigned at = 0; at <= length; at++) {
                begin(plain);
                editor.columns = plain ? LINE_MAX : COLUMNS;
                if (plain && length + 3 >= COLUMNS) {
                    continue; // plain lines don't wrap: the screen is too small to look at
                }
                for (unsigned i = 0; i < length; i++) {
                    line_key(&editor, (char)('a' + i % 26));
                }
                while (editor.cursor > at) {
                    line_key(&editor, 2);
                }
                check_screen();
                line_key(&editor, '*');
                check_screen();
                line_key(&editor, 127);
                check_screen();
                line_key(&editor, 4 * (length != 0));
                check_screen();
                line_hide(&editor);
                for (unsigned i = 0; i < COLUMNS * ROWS; i++) {
                    assert_int_equal(shown(i), ' ');
                }
                assert_int_equal(screen.row * COLUMNS + screen.column, 0);
                line_show(&editor);
                check_screen();
            }
        }
    }
}

static void test_plain_writes_no_escape(void **state)
{
    (void)state;
    begin(true);
    editor.columns = LINE_MAX;
    keys("abc\x01x\x05y\x02\x02z\x15\033[A\x0c\x12"
         "abc\x07\x17\x19\x14");
    line_hide(&editor);
    line_show(&editor);
    assert_int_equal(escapes, 0);
    assert_int_equal(keys("\x03"), LINE_INTERRUPT);
    assert_int_equal(escapes, 0);
}

static void test_too_long_is_refused_whole(void **state)
{
    (void)state;
    begin(false);
    for (int i = 0; i < LINE_MAX; i++) {
        line_key(&editor, 'x');
    }
    assert_int_equal(editor.length, LINE_MAX);
    assert_int_equal(line_key(&editor, '\r'), LINE_DONE);
    line_begin(&editor);
    for (int i = 0; i <= LINE_MAX; i++) {
        line_key(&editor, 'x');
    }
    keys("\x7f\x7f\x01\x04"); // taking some away does not make it whole again
    assert_int_equal(line_key(&editor, '\r'), LINE_REFUSED);
    line_begin(&editor);
    for (int i = 0; i <= LINE_MAX; i++) {
        line_key(&editor, 'y');
    }
    keys("\x15ok");
    assert_int_equal(line_key(&editor, '\r'), LINE_DONE); // but taking all of it away does
    assert_string_equal(editor.text, "ok");
}

static void test_control_keys_that_end(void **state)
{
    (void)state;
    begin(false);
    assert_int_equal(keys("\x04"), LINE_END);
    line_begin(&editor);
    assert_int_equal(keys("abc\x03"), LINE_INTERRUPT);
    line_begin(&editor);
    assert_int_equal(keys("ab\t"), LINE_COMPLETE);
    assert_true(line_insert(&editor, "cd", 2));
    assert_string_equal(editor.text, "abcd");
    assert_false(line_insert(&editor, editor.killed, LINE_MAX));
    assert_string_equal(editor.text, "abcd");
}

static void test_broken_sequences_do_not_eat_enter(void **state)
{
    (void)state;
    static const char *const broken[] = {"\033",  "\033[",    "\033[1",
                                         "\033O", "\033[1;2", "\033[?25"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        begin(false);
        assert_int_equal(keys("a"), LINE_NOTHING);
        assert_int_equal(keys(broken[i]), LINE_NOTHING);
        assert_int_equal(line_key(&editor, '\r'), LINE_DONE);
        assert_string_equal(editor.text, "a");
    }
    begin(false);
    keys("a\033[");
    for (int i = 0; i < 100; i++) {
        line_key(&editor, '1'); // a sequence that never ends is given up
    }
    assert_true(editor.length > 1);
}

static void test_history(void **state)
{
    (void)state;
    memset(&history, 0, sizeof(history));
    history_add(&history, "one");
    history_add(&history, "two");
    history_add(&history, "two");
    history_add(&history, "");
    history_add(&history, "three");
    begin(false);
    type_and_check("unfinished", "unfinished", 10);
    type_and_check("\033[A", "three", 5);
    type_and_check("\x10", "two", 3);
    type_and_check("\033[A\033[A", "one", 3);
    type_and_check("\033[B", "two", 3);
    type_and_check("\033[B\x0e\x0e", "unfinished", 10);
    type_and_check("\x15\x12tw", "two", 3); // ^R
    type_and_check("\x12", "two", 3);       // no older one that matches
    type_and_check("\x07", "", 0);          // ^G gives up
    type_and_check("\x12"
                   "e\x12",
                   "one", 3);
    type_and_check("\x01", "one", 0); // any other key goes on with what was found
    for (int i = 0; i < 3 * LINE_HISTORY; i++) {
        history_add(&history, i % 2 ? "even" : "odd");
    }
    assert_non_null(history_get(&history, LINE_HISTORY - 1));
    assert_null(history_get(&history, LINE_HISTORY));
}

static void test_characters_of_several_bytes(void **state)
{
    (void)state;
    begin(false);
    keys("a\xc3\xa9"
         "b\xf0\x9f\xa6\x8a"); // a é b fox
    assert_int_equal(editor.length, 8);
    assert_int_equal(screen.column, 2 + 4);
    keys("\x7f");
    assert_string_equal(editor.text, "a\xc3\xa9"
                                     "b");
    keys("\x02\x02"); // over b and é
    assert_int_equal(editor.cursor, 1);
    assert_int_equal(screen.column, 2 + 1);
    keys("\x04");
    assert_string_equal(editor.text, "ab");
    keys("\xc3X"); // a character that is not finished is a byte, and nothing typed is lost
    assert_string_equal(editor.text, "a\xc3Xb");
    assert_int_equal(shown(3), '?');
    keys("\xa9");
    assert_string_equal(editor.text, "a\xc3X\xa9"
                                     "b");
}

static void test_nul_is_nothing(void **state)
{
    (void)state;
    begin(false);
    line_key(&editor, 'a');
    assert_int_equal(line_key(&editor, '\0'), LINE_NOTHING);
    type_and_check("b", "ab", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typing_and_enter),
        cmocka_unit_test(test_a_crlf_ends_one_line),
        cmocka_unit_test(test_movement_and_deletion),
        cmocka_unit_test(test_lines_wrap_and_shrink),
        cmocka_unit_test(test_every_edit_in_every_column),
        cmocka_unit_test(test_plain_writes_no_escape),
        cmocka_unit_test(test_too_long_is_refused_whole),
        cmocka_unit_test(test_control_keys_that_end),
        cmocka_unit_test(test_broken_sequences_do_not_eat_enter),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_characters_of_several_bytes),
        cmocka_unit_test(test_nul_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
