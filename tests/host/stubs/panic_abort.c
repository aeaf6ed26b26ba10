// panic() for fuzz targets: the message, and an end that libFuzzer notices.
#include <core/panic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

uint32_t warn_count;

__noreturn void panic(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

void warn_at(const char *file, int line, const char *what)
{
    fprintf(stderr, "WARN_ON at %s:%d: %s\n", file, line, what);
    abort();
}
