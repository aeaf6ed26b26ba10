// panic() and WARN_ON() for host tests. A panic is an assertion failure for cmocka, so a test may
// ask for one:
//
//     expect_assert_failure(ring_push(NULL));
//
// and any other panic fails the test with its message.
#include <core/panic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stubs.h"

uint32_t warn_count;

__noreturn void panic(const char *format, ...)
{
    // Kept when cmocka jumps out: it holds on to the pointer.
    static char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    mock_assert(0, message, "panic", 0);
    abort();
}

void warn_at(const char *file, int line, const char *what)
{
    warn_count++;
    fprintf(stderr, "# WARN_ON at %s:%d: %s\n", file, line, what);
}

unsigned stub_warnings(void)
{
    return warn_count;
}
