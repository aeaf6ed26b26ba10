// printk() for host tests: the lines are kept, so that a test can look for them.
#include <core/log.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "stubs.h"

static char lines[65536];
static size_t length;

void printk(enum log_level level, const char *format, ...)
{
    (void)level;
    size_t room = sizeof(lines) - length;
    if (room < 512) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(lines + length, room - 1, format, arguments);
    va_end(arguments);
    length += (size_t)written < room - 1 ? (size_t)written : room - 2;
    lines[length++] = '\n';
    lines[length] = '\0';
}

const char *stub_log(void)
{
    return lines;
}

void stub_log_clear(void)
{
    length = 0;
    lines[0] = '\0';
}
