// printf for a kernel: the conversions that a kernel needs, no locale, no floating point.
//
// A format string is a sequence of literal text and conversions; each conversion is parsed into a
// struct format_spec, then printed by one of three functions (text, number, pointer) into a bounded
// buffer that keeps counting past its end. Context: any; never blocks, never allocates.
#include <lib/format.h>
#include <lib/string.h>

struct format_out {
    char *to;
    size_t size;   // room, NUL included
    size_t length; // of the whole text, also what did not fit
};

struct format_spec {
    bool left, zero, plus, blank, alternate, upper, is_signed;
    int width;
    int precision; // -1: none given
    unsigned base;
    enum { LENGTH_INT, LENGTH_CHAR, LENGTH_SHORT, LENGTH_LONG, LENGTH_LLONG, LENGTH_SIZE } length;
    char conversion;
};

static void format_putc(struct format_out *out, char c)
{
    if (out->length + 1 < out->size) {
        out->to[out->length] = c;
    }
    out->length++;
}

static void format_pad(struct format_out *out, char c, int count)
{
    for (; count > 0; count--) {
        format_putc(out, c);
    }
}

static void format_text(struct format_out *out, const struct format_spec *spec, const char *s)
{
    size_t max = spec->precision >= 0 ? (size_t)spec->precision : SIZE_MAX;
    size_t length;

    if (s == NULL) {
        s = "(null)";
    }
    length = strnlen(s, max);
    if (!spec->left) {
        format_pad(out, ' ', spec->width - (int)length);
    }
    for (size_t i = 0; i < length; i++) {
        format_putc(out, s[i]);
    }
    if (spec->left) {
        format_pad(out, ' ', spec->width - (int)length);
    }
}

// [blanks][sign or 0x][zeroes][digits][blanks]
static void format_number(struct format_out *out, const struct format_spec *spec, uint64_t value,
                          bool negative)
{
    const char *alphabet = spec->upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char digits[24], prefix[3];
    int digit_count = 0, prefix_count = 0, zeroes, total;
    bool is_zero = value == 0;

    while (value != 0 || (digit_count == 0 && spec->precision != 0)) {
        digits[digit_count++] = alphabet[value % spec->base];
        value /= spec->base;
    }
    if (spec->is_signed && (negative || spec->plus || spec->blank)) {
        prefix[prefix_count++] = negative ? '-' : spec->plus ? '+' : ' ';
    }
    if (spec->alternate && spec->base == 16 && !is_zero) {
        prefix[prefix_count++] = '0';
        prefix[prefix_count++] = spec->upper ? 'X' : 'x';
    } else if (spec->alternate && spec->base == 8) {
        prefix[prefix_count++] = '0';
    }
    zeroes = spec->precision - digit_count;
    if (spec->precision < 0 && spec->zero && !spec->left) {
        zeroes = spec->width - prefix_count - digit_count;
    }
    if (zeroes < 0) {
        zeroes = 0;
    }
    total = prefix_count + zeroes + digit_count;
    if (!spec->left) {
        format_pad(out, ' ', spec->width - total);
    }
    for (int i = 0; i < prefix_count; i++) {
        format_putc(out, prefix[i]);
    }
    format_pad(out, '0', zeroes);
    while (digit_count > 0) {
        format_putc(out, digits[--digit_count]);
    }
    if (spec->left) {
        format_pad(out, ' ', spec->width - total);
    }
}

// Widths beyond this are a mistake or an attack, not a table.
enum { FORMAT_MAX_WIDTH = 4096 };

static const char *format_parse_int(const char *f, int *value)
{
    *value = 0;
    while (*f >= '0' && *f <= '9') {
        *value = min(*value * 10 + (*f++ - '0'), (int)FORMAT_MAX_WIDTH);
    }
    return f;
}

static const char *format_parse_flags(const char *f, struct format_spec *spec)
{
    for (;; f++) {
        switch (*f) {
        case '-':
            spec->left = true;
            break;
        case '0':
            spec->zero = true;
            break;
        case '+':
            spec->plus = true;
            break;
        case ' ':
            spec->blank = true;
            break;
        case '#':
            spec->alternate = true;
            break;
        default:
            return f;
        }
    }
}

static const char *format_parse_length(const char *f, struct format_spec *spec)
{
    if (*f == 'z' || *f == 't') {
        spec->length = LENGTH_SIZE;
        return f + 1;
    }
    if (*f == 'h') {
        spec->length = f[1] == 'h' ? LENGTH_CHAR : LENGTH_SHORT;
        return f[1] == 'h' ? f + 2 : f + 1;
    }
    if (*f == 'l') {
        spec->length = f[1] == 'l' ? LENGTH_LLONG : LENGTH_LONG;
        return f[1] == 'l' ? f + 2 : f + 1;
    }
    return f;
}

// va_list is an array type on this machine: passed to a function it is a pointer, and what the
// callee consumes stays consumed.
static const char *format_parse(const char *f, struct format_spec *spec, va_list args)
{
    *spec = (struct format_spec){.precision = -1, .base = 10};
    f = format_parse_flags(f, spec);
    if (*f == '*') {
        int width = va_arg(args, int);

        spec->left |= width < 0;
        spec->width = width == INT32_MIN ? FORMAT_MAX_WIDTH
                                         : min(width < 0 ? -width : width, (int)FORMAT_MAX_WIDTH);
        f++;
    } else {
        f = format_parse_int(f, &spec->width);
    }
    if (*f == '.') {
        f++;
        if (*f == '*') {
            spec->precision = va_arg(args, int);
            f++;
        } else {
            f = format_parse_int(f, &spec->precision);
        }
    }
    f = format_parse_length(f, spec);
    spec->conversion = *f;
    return *f == '\0' ? f : f + 1;
}

static void format_signed(struct format_out *out, struct format_spec *spec, va_list args)
{
    int64_t value;

    switch (spec->length) {
    case LENGTH_LONG:
    case LENGTH_LLONG:
    case LENGTH_SIZE:
        value = va_arg(args, long);
        break;
    default:
        value = va_arg(args, int);
        break;
    }
    if (spec->length == LENGTH_CHAR) {
        value = (signed char)value;
    } else if (spec->length == LENGTH_SHORT) {
        value = (short)value;
    }
    spec->is_signed = true;
    format_number(out, spec, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0);
}

static void format_unsigned(struct format_out *out, struct format_spec *spec, va_list args)
{
    uint64_t value;

    switch (spec->length) {
    case LENGTH_LONG:
    case LENGTH_LLONG:
    case LENGTH_SIZE:
        value = va_arg(args, unsigned long);
        break;
    default:
        value = va_arg(args, unsigned);
        break;
    }
    if (spec->length == LENGTH_CHAR) {
        value = (uint8_t)value;
    } else if (spec->length == LENGTH_SHORT) {
        value = (uint16_t)value;
    }
    format_number(out, spec, value, false);
}

static void format_one(struct format_out *out, struct format_spec *spec, va_list args)
{
    switch (spec->conversion) {
    case 'd':
    case 'i':
        format_signed(out, spec, args);
        break;
    case 'X':
        spec->upper = true;
        spec->base = 16;
        format_unsigned(out, spec, args);
        break;
    case 'x':
        spec->base = 16;
        format_unsigned(out, spec, args);
        break;
    case 'o':
        spec->base = 8;
        format_unsigned(out, spec, args);
        break;
    case 'u':
        format_unsigned(out, spec, args);
        break;
    case 'p':
        spec->base = 16;
        spec->precision = 16;
        format_text(out, &(struct format_spec){.precision = -1}, "0x");
        format_number(out, spec, (uintptr_t)va_arg(args, void *), false);
        break;
    case 's':
        format_text(out, spec, va_arg(args, const char *));
        break;
    case 'c': {
        char c = (char)va_arg(args, int);

        if (!spec->left) {
            format_pad(out, ' ', spec->width - 1);
        }
        format_putc(out, c); // NUL included: the caller asked for that byte
        if (spec->left) {
            format_pad(out, ' ', spec->width - 1);
        }
        break;
    }
    case '%':
        format_putc(out, '%');
        break;
    default: // unknown: shown as it stands, so the mistake is seen
        format_putc(out, '%');
        if (spec->conversion != '\0') {
            format_putc(out, spec->conversion);
        }
        break;
    }
}

int vsnprintf(char *to, size_t size, const char *format, va_list args)
{
    struct format_out out = {.to = to, .size = size};
    struct format_spec spec;
    va_list rest;

    va_copy(rest, args);
    while (*format != '\0') {
        if (*format != '%') {
            format_putc(&out, *format++);
            continue;
        }
        format = format_parse(format + 1, &spec, rest);
        format_one(&out, &spec, rest);
    }
    va_end(rest);
    if (size != 0) {
        to[min(out.length, size - 1)] = '\0';
    }
    return (int)min(out.length, (size_t)INT32_MAX);
}

int snprintf(char *to, size_t size, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(to, size, format, args);
    va_end(args);
    return length;
}
