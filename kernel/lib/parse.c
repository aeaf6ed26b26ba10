// Numbers from text: the whole string or an error, never a part of it.
// Context: any.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>

static int parse_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'Z') {
        return c - 'A' + 10;
    }
    return 99;
}

// Reads digits up to the first other character. -EINVAL: none; -ERANGE: more than 64 bits.
static int parse_digits(const char **s, unsigned base, uint64_t *value)
{
    const char *p = *s;

    if (base == 0) {
        base = 10;
        if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
            base = 16;
        } else if (p[0] == '0') {
            base = 8;
        }
    }
    if (base == 16 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && parse_digit(p[2]) < 16) {
        p += 2;
    }
    if ((unsigned)parse_digit(*p) >= base) {
        return -EINVAL;
    }
    *value = 0;
    for (; (unsigned)parse_digit(*p) < base; p++) {
        if (__builtin_mul_overflow(*value, base, value) ||
            __builtin_add_overflow(*value, (unsigned)parse_digit(*p), value)) {
            return -ERANGE;
        }
    }
    *s = p;
    return 0;
}

static bool parse_at_end(const char *s)
{
    return s[0] == '\0' || (s[0] == '\n' && s[1] == '\0');
}

int kstrtou64(const char *s, unsigned base, uint64_t *value)
{
    uint64_t v;
    int err;

    if (*s == '+') {
        s++;
    }
    err = parse_digits(&s, base, &v);
    if (err != 0) {
        return err;
    }
    if (!parse_at_end(s)) {
        return -EINVAL;
    }
    *value = v;
    return 0;
}

int kstrtou32(const char *s, unsigned base, uint32_t *value)
{
    uint64_t v;
    int err = kstrtou64(s, base, &v);

    if (err != 0) {
        return err;
    }
    if (v > UINT32_MAX) {
        return -ERANGE;
    }
    *value = (uint32_t)v;
    return 0;
}

int kstrtos32(const char *s, unsigned base, int32_t *value)
{
    bool negative = *s == '-';
    uint64_t v;
    int err = kstrtou64(negative ? s + 1 : s, base, &v);

    if (err != 0) {
        return err;
    }
    if (negative && (s[1] == '+' || s[1] == '-')) {
        return -EINVAL;
    }
    if (v > (uint64_t)INT32_MAX + (negative ? 1 : 0)) {
        return -ERANGE;
    }
    *value = (int32_t)(negative ? 0 - v : v);
    return 0;
}

int parse_size(const char *s, uint64_t *bytes)
{
    unsigned shift = 0;
    uint64_t v;
    int err = parse_digits(&s, 0, &v);

    if (err != 0) {
        return err;
    }
    switch (*s) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'M':
        shift = 20;
        break;
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (shift != 0) {
        s++;
    }
    if (!parse_at_end(s)) {
        return -EINVAL;
    }
    if (v > UINT64_MAX >> shift) {
        return -ERANGE;
    }
    *bytes = v << shift;
    return 0;
}

int parse_ipv4(const char *s, uint32_t *address)
{
    uint32_t result = 0;

    for (int part = 0; part < 4; part++) {
        uint64_t v;

        if (parse_digits(&s, 10, &v) != 0 || v > 255) {
            return -EINVAL;
        }
        result = result << 8 | (uint32_t)v;
        if (part < 3 && *s++ != '.') {
            return -EINVAL;
        }
    }
    if (!parse_at_end(s)) {
        return -EINVAL;
    }
    *address = result;
    return 0;
}
