// Bounded text sinks, and register bits by name.
//
//   data  [ what was written ......... ][ room ]
//         0                            length  size     needed runs past size when the text is cut
//
// Context: any.
#include <lib/format.h>
#include <lib/string.h>
#include <lib/text.h>

void text_init(struct text *t, char *data, size_t size)
{
    *t = (struct text){.data = data, .size = size};
    if (size != 0) {
        data[0] = '\0';
    }
}

void text_write(struct text *t, const void *data, size_t size)
{
    size_t room = t->size > t->length + 1 ? t->size - t->length - 1 : 0;
    size_t taken = min(size, room);

    if (taken != 0) {
        memcpy(t->data + t->length, data, taken);
        t->length += taken;
        t->data[t->length] = '\0';
    }
    t->needed += size;
}

void text_putc(struct text *t, char c)
{
    text_write(t, &c, 1);
}

void text_puts(struct text *t, const char *s)
{
    text_write(t, s, strlen(s));
}

void text_vprintf(struct text *t, const char *format, va_list args)
{
    size_t room = t->size > t->length ? t->size - t->length : 0;
    size_t whole = (size_t)vsnprintf(room != 0 ? t->data + t->length : NULL, room, format, args);

    t->length += room != 0 ? min(whole, room - 1) : 0;
    t->needed += whole;
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_vprintf(t, format, args);
    va_end(args);
}

bool text_is_cut(const struct text *t)
{
    return t->needed > t->length;
}

void text_bits(struct text *t, uint32_t value, const struct bit_name *names)
{
    const char *separator = "<";

    text_printf(t, "0x%x", value);
    for (; names->name != NULL; names++) {
        if ((value & names->mask) == names->mask) {
            text_printf(t, "%s%s", separator, names->name);
            separator = ",";
            value &= ~names->mask;
        }
    }
    if (*separator == ',') {
        if (value != 0) {
            text_printf(t, ",0x%x", value);
        }
        text_putc(t, '>');
    }
}
