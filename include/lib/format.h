// printf for a kernel: %d %i %u %x %X %o %c %s %p %%, flags "-0+ #", width, precision, *, h hh l ll
// z. %p prints 16 hex digits after 0x. No floating point. Context: any; never blocks, never
// allocates.
#pragma once

#include <stdarg.h>

#include <lib/types.h>

// Write at most size bytes including the NUL; return the length that the whole text has (as C99's).
int vsnprintf(char *to, size_t size, const char *format, va_list args);
int snprintf(char *to, size_t size, const char *format, ...) __printf(3, 4);
