// A bounded sink for text: what every /proc file and report is written into. It never overruns and
// never lies: `needed` keeps counting past the end, so the reader can come again with a larger
// buffer. Context: any.
#pragma once

#include <stdarg.h>

#include <lib/types.h>

struct text {
    char *data;
    size_t size;   // bytes that data has room for; one is kept for the NUL
    size_t length; // bytes in data
    size_t needed; // bytes that the whole text has; > length means cut
};

#define TEXT_INIT(buffer) ((struct text){.data = (buffer), .size = sizeof(buffer)})

void text_init(struct text *t, char *data, size_t size);
void text_putc(struct text *t, char c);
void text_puts(struct text *t, const char *s);
void text_write(struct text *t, const void *data, size_t size);
void text_printf(struct text *t, const char *format, ...) __printf(2, 3);
void text_vprintf(struct text *t, const char *format, va_list args);
bool text_is_cut(const struct text *t);

// Register bits by name: 0x84<LSC,RXT0>. The table ends with a NULL name; bits without a name print
// as numbers.
struct bit_name {
    uint32_t mask;
    const char *name;
};
void text_bits(struct text *t, uint32_t value, const struct bit_name *names);
