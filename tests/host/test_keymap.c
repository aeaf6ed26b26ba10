// The keyboard's codes, and the terminal that shows what they type.
//
// links: drivers/char/keymap.c drivers/char/vt.c drivers/char/font.c kernel/lib/string.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/char/font.h"
#include "drivers/char/keymap.h"
#include "drivers/char/vt.h"

static const char *typed(struct keymap *map, const char *codes, size_t count)
{
    static char all[256];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        char to[KEYMAP_MAX_BYTES];
        size_t bytes = keymap_decode(map, (uint8_t)codes[i], to);
        assert_true(bytes <= KEYMAP_MAX_BYTES);
        memcpy(all + length, to, bytes);
        length += bytes;
    }
    all[length] = '\0';
    return all;
}
#define TYPED(map, codes) typed(map, codes, sizeof(codes) - 1)

static void test_set1(void **state)
{
    (void)state;
    struct keymap map = {0};
    assert_string_equal(TYPED(&map, "\x1e\x9e\x30\xb0\x1c\x9c"), "ab\r");
    assert_string_equal(TYPED(&map, "\x2a\x1e\x9e\xaa\x1e"), "Aa"); // shift, and no more
    assert_string_equal(TYPED(&map, "\x36\x02\x0c\x35\xb6\x02"), "!_?1");
    assert_string_equal(TYPED(&map, "\x3a\xba\x1e\x02\x2a\x1e\xaa\x3a\xba\x1e"),
                        "A1aa"); // caps lock
    assert_string_equal(TYPED(&map, "\x1d\x2e\x9d\x2e"), "\x03"
                                                         "c"); // ^C
    assert_string_equal(TYPED(&map, "\xe0\x1d\x20\xe0\x9d\x20"), "\x04"
                                                                 "d"); // the right control
    assert_string_equal(TYPED(&map, "\x38\x30\xb8"), "\033b");         // Alt-B
    assert_string_equal(TYPED(&map, "\xe0\x48\xe0\xc8\xe0\x53\xe0\x1c"), "\033[A\033[3~\r");
    assert_string_equal(TYPED(&map, "\xe0\x2a\xe0\x4b\xe0\xcb\xe0\xaa\x1e"),
                        "\033[Da"); // framed by a shift that is none
    assert_string_equal(TYPED(&map, "\xe1\x1d\x45\xe1\x9d\xc5\x1e"), "a"); // Pause types nothing
    assert_string_equal(TYPED(&map, "\x0e\x0f\x01\x39"), "\x7f\t\033 ");
    assert_string_equal(TYPED(&map, "\x3b\x58\x7f\xff\x80"), "");
}

static void test_set2_types_the_same(void **state)
{
    (void)state;
    struct keymap map = {.set2 = true};
    assert_string_equal(TYPED(&map, "\x1c\xf0\x1c\x32\xf0\x32\x5a"), "ab\r");
    assert_string_equal(TYPED(&map, "\x12\x1c\xf0\x1c\xf0\x12\x1c"), "Aa");
    assert_string_equal(TYPED(&map, "\x14\x21\xf0\x21\xf0\x14\x21"), "\x03"
                                                                     "c");
    assert_string_equal(TYPED(&map, "\xe0\x75\xe0\xf0\x75"), "\033[A");
    assert_string_equal(TYPED(&map, "\xe1\x14\x77\xe1\xf0\x14\xf0\x77\x1c"), "a");
}

static void test_any_codes(void **state)
{
    (void)state;
    srand(1);
    struct keymap map = {0};
    char to[KEYMAP_MAX_BYTES];
    for (int i = 0; i < 1000000; i++) {
        map.set2 = i / 1000 % 2;
        assert_true(keymap_decode(&map, (uint8_t)rand(), to) <= KEYMAP_MAX_BYTES);
    }
}

enum { COLUMNS = 10, ROWS = 4 };
static vt_cell_t cells[COLUMNS * ROWS];

static void check(struct vt *vt, const char *text, const char *screen, unsigned row,
                  unsigned column)
{
    char shown[COLUMNS * ROWS + 1] = "";
    vt_write(vt, text, strlen(text));
    for (int i = 0; i < COLUMNS * ROWS; i++) {
        shown[i] = (char)cells[i];
    }
    assert_string_equal(shown, screen);
    assert_int_equal(vt->row, row);
    assert_int_equal(vt->column, column);
}

static void test_terminal(void **state)
{
    (void)state;
    struct vt vt;
    vt_init(&vt, cells, COLUMNS, ROWS);
    check(&vt, "0123456789", "0123456789                              ", 0, 9);
    check(&vt, "a", "0123456789a                             ", 1, 1);
    check(&vt, "\r\nb\tc", "0123456789a         b       c           ", 2, 9);
    check(&vt, "\033[2D\033[A*", "0123456789a      *  b       c           ", 1, 8);
    check(&vt, "\033[K\033[1;3Hx", "01x3456789a      *  b       c           ", 0, 3);
    check(&vt, "\n\n\n\n", "a      *  b       c                     ", 3, 3);
    check(&vt, "\033[99A\033[99C\033[99B\033[99D", "a      *  b       c                     ", 3,
          0);
    check(&vt, "\033[2J\033[H", "                                        ", 0, 0);
    check(&vt, "\033[31;1mr\033[0m", "r                                       ", 0, 1);
    assert_int_equal(cells[0] >> 8, 0x0c);
    check(&vt, "\033[999999999999999999999;1Hz", "r                             z         ", 3, 1);
    check(&vt, "\033[?25l\033(\033", "r                             z         ", 3, 1);
}

static void test_terminal_takes_anything(void **state)
{
    (void)state;
    static const char pieces[] = "\033[;0123456789ABCDHJKm\r\n\b\tx\x9b\xff?";
    struct vt vt;
    srand(2);
    vt_init(&vt, cells, COLUMNS, ROWS);
    for (int i = 0; i < 1000000; i++) {
        char c = i % 3 ? pieces[(unsigned)rand() % (sizeof(pieces) - 1)] : (char)rand();
        vt_write(&vt, &c, 1);
        assert_true(vt.row < ROWS && vt.column < COLUMNS);
    }
}

static void test_every_letter_has_its_own_glyph(void **state)
{
    (void)state;
    uint8_t rows[256][FONT_HEIGHT];
    for (unsigned c = 0; c < 256; c++) {
        for (unsigned y = 0; y < FONT_HEIGHT; y++) {
            rows[c][y] = font_row((unsigned char)c, y);
        }
    }
    for (unsigned a = ' '; a < 127; a++) {
        for (unsigned b = ' '; b < a; b++) {
            assert_memory_not_equal(rows[a], rows[b], FONT_HEIGHT);
        }
        assert_memory_not_equal(rows[a], rows[127], FONT_HEIGHT);
    }
    assert_memory_equal(rows[0], rows[127], FONT_HEIGHT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set1),
        cmocka_unit_test(test_set2_types_the_same),
        cmocka_unit_test(test_any_codes),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_terminal_takes_anything),
        cmocka_unit_test(test_every_letter_has_its_own_glyph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
