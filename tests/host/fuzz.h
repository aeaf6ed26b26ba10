// What the fuzz targets share.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What holds whatever the input; else it is kept as a finding.
#define MUST(condition)                                                                \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

// Ends within its room, and may be printed.
static inline void must_be_text(const char *s, size_t size)
{
    MUST(strnlen(s, size) < size);
    for (; *s != '\0'; s++) {
        MUST(*s >= 0x20 && *s < 0x7f);
    }
}
