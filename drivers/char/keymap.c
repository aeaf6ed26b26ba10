// Scan codes to bytes, US layout.
//
// A keyboard tells which key went down or up, by its place; letters are our business. Set 1, the
// PC/XT's, numbers keys from 1 and sets bit 7 when one goes up; the keys that the PC/AT added have
// 0xe0 before them. Set 2, which keyboards speak by themselves, has other numbers and 0xf0 before a
// release; the i8042 translates it to set 1 unless told otherwise, and where it does not, the table
// at the end does. Keys without a letter send what a VT220 or xterm sends for them.
//
// IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and auxiliary device
// controller", keyboard scan codes. Context: any; pure.
#include <lib/string.h>
#include "keymap.h"

enum {
    CODE_ENTER = 0x1c,
    CODE_LEFT_CONTROL = 0x1d,
    CODE_LEFT_SHIFT = 0x2a,
    CODE_SLASH = 0x35,
    CODE_RIGHT_SHIFT = 0x36,
    CODE_LEFT_ALT = 0x38,
    CODE_CAPS_LOCK = 0x3a,
    CODE_RELEASE = 0x80,
    CODE_EXTENDED = 0xe0,
    CODE_PAUSE = 0xe1,
    CODE_SET2_RELEASE = 0xf0,
};

// By scan code, 0x00 to 0x39; 0 where the key types nothing. 0x37 and 0x47 to 0x53 are the keypad,
// below.
static const char keymap_plain[] =
    "\0\0331234567890-=\x7f\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char keymap_shift[] =
    "\0\033!@#$%^&*()_+\x7f\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
static const char keymap_keypad[] = "789-456+1230."; // from 0x47

static size_t keymap_string(const char *s, char to[KEYMAP_MAX_BYTES])
{
    size_t length = strlen(s);
    memcpy(to, s, length);
    return length;
}

// The keys behind 0xe0.
static size_t keymap_extended(uint8_t code, char to[KEYMAP_MAX_BYTES])
{
    static const struct {
        uint8_t code;
        const char *sends;
    } keys[] = {
        {0x1c, "\r"},      {0x35, "/"},       {0x47, "\033[H"},  {0x48, "\033[A"},
        {0x49, "\033[5~"}, {0x4b, "\033[D"},  {0x4d, "\033[C"},  {0x4f, "\033[F"},
        {0x50, "\033[B"},  {0x51, "\033[6~"}, {0x52, "\033[2~"}, {0x53, "\033[3~"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (keys[i].code == code) {
            return keymap_string(keys[i].sends, to);
        }
    }
    return 0;
}

// Keeps track of the keys that change others. True when the code is one of them.
static bool keymap_modifier(struct keymap *m, uint8_t code, bool extended, bool down)
{
    switch (code) {
    case CODE_LEFT_SHIFT:
        m->left_shift =
            extended ? m->left_shift : down; // 0xe0 0x2a is a shift that only frames other keys
        return true;
    case CODE_RIGHT_SHIFT:
        m->right_shift = extended ? m->right_shift : down;
        return true;
    case CODE_LEFT_CONTROL:
        *(extended ? &m->right_control : &m->left_control) = down;
        return true;
    case CODE_LEFT_ALT:
        *(extended ? &m->right_alt : &m->left_alt) = down;
        return true;
    case CODE_CAPS_LOCK:
        m->caps_lock = m->caps_lock != down;
        return true;
    default:
        return false;
    }
}

static size_t keymap_letter(const struct keymap *m, uint8_t code, char to[KEYMAP_MAX_BYTES])
{
    bool shift = m->left_shift || m->right_shift;
    char c = 0;
    if (code < sizeof(keymap_plain) - 1) {
        c = keymap_plain[code];
        bool letter = c >= 'a' && c <= 'z';
        c = shift != (letter && m->caps_lock) ? keymap_shift[code] : c;
    } else if (code >= 0x47 && code < 0x47 + sizeof(keymap_keypad) - 1) {
        c = keymap_keypad[code - 0x47];
    }
    if (c == 0) {
        return 0;
    }
    if ((m->left_control || m->right_control) && c >= '?') {
        c = (char)(c & 0x1f); // ^A is 1, as ASCII has it
    }
    size_t length = 0;
    if (m->left_alt || m->right_alt) {
        to[length++] = '\033';
    }
    to[length++] = c;
    return length;
}

static uint8_t keymap_set2_to_set1(uint8_t code);

size_t keymap_decode(struct keymap *m, uint8_t code, char to[KEYMAP_MAX_BYTES])
{
    if (m->skip > 0) {
        m->skip--;
        return 0;
    }
    if (code == CODE_EXTENDED) {
        m->extended = true;
        return 0;
    }
    if (code == CODE_PAUSE) {
        m->skip = m->set2 ? 7 : 5;
        return 0;
    }
    if (m->set2 && code == CODE_SET2_RELEASE) {
        m->set2_break = true;
        return 0;
    }
    bool down = !(code & CODE_RELEASE);
    if (m->set2) {
        down = !m->set2_break;
        m->set2_break = false;
        code = keymap_set2_to_set1(code);
    }
    code &= CODE_RELEASE - 1;
    bool extended = m->extended;
    m->extended = false;
    if (keymap_modifier(m, code, extended, down) || !down) {
        return 0;
    }
    return extended ? keymap_extended(code, to) : keymap_letter(m, code, to);
}

// By set 1 code, what the same key is in set 2.
static const uint8_t keymap_set2[0x54] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55,
    0x66, 0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b,
    0x5a, 0x14, 0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e,
    0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c,
    0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77,
    0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71,
};

static uint8_t keymap_set2_to_set1(uint8_t code)
{
    for (uint8_t i = 1; i < sizeof(keymap_set2); i++) {
        if (keymap_set2[i] == code) {
            return i;
        }
    }
    return 0;
}
