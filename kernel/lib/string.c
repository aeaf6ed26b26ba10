// The C library's memory and string functions.
//
// memcpy and memset move eight bytes a step with the string instructions and finish with single
// bytes. Real CPUs run both forms in microcode at full width; an emulator runs them step by step,
// so there the quadwords are eight times cheaper. Context: any.
#include <lib/errno.h>
#include <lib/string.h>

void *memcpy(void *to, const void *from, size_t size)
{
    void *result = to;
#ifdef HOST_TEST
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
#else
    size_t quads = size / 8;

    size %= 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(quads)::"memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
#endif
    return result;
}

void *memset(void *to, int byte, size_t size)
{
    void *result = to;
#ifdef HOST_TEST
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)to)[i] = (uint8_t)byte;
    }
#else
    uint64_t pattern = (uint8_t)byte * 0x0101010101010101ull;
    size_t quads = size / 8;

    size %= 8;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(quads) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(pattern) : "memory");
#endif
    return result;
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if (t <= f || t >= f + size) {
        return memcpy(to, from, size);
    }
    while (
        size-- !=
        0) { // overlapping upwards: from the end, so that nothing is read after it was overwritten
        t[size] = f[size];
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;

    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i]) {
            return x[i] - y[i];
        }
    }
    return 0;
}

void *memchr(const void *s, int byte, size_t size)
{
    const uint8_t *p = s;

    for (size_t i = 0; i < size; i++) {
        if (p[i] == (uint8_t)byte) {
            return (void *)(uintptr_t)(p + i);
        }
    }
    return NULL;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n] != '\0') {
        n++;
    }
    return n;
}

size_t strlen(const char *s)
{
    return strnlen(s, PTRDIFF_MAX);
}

int strncmp(const char *a, const char *b, size_t max)
{
    for (size_t i = 0; i < max; i++) {
        if (a[i] != b[i] || a[i] == '\0') {
            return (uint8_t)a[i] - (uint8_t)b[i];
        }
    }
    return 0;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, PTRDIFF_MAX);
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c) {
            return (char *)(uintptr_t)s;
        }
        if (*s == '\0') {
            return NULL;
        }
    }
}

char *strrchr(const char *s, int c)
{
    char *last = NULL;

    for (;; s++) {
        if (*s == (char)c) {
            last = (char *)(uintptr_t)s;
        }
        if (*s == '\0') {
            return last;
        }
    }
}

char *strstr(const char *s, const char *what)
{
    size_t length = strlen(what);

    for (;; s++) {
        if (strncmp(s, what, length) == 0) {
            return (char *)(uintptr_t)s;
        }
        if (*s == '\0') {
            return NULL;
        }
    }
}

size_t strspn(const char *s, const char *accept)
{
    size_t n = 0;

    while (s[n] != '\0' && strchr(accept, s[n]) != NULL) {
        n++;
    }
    return n;
}

size_t strcspn(const char *s, const char *reject)
{
    size_t n = 0;

    while (s[n] != '\0' && strchr(reject, s[n]) == NULL) {
        n++;
    }
    return n;
}

long strscpy(char *to, const char *from, size_t size)
{
    size_t n;

    if (size == 0) {
        return -E2BIG;
    }
    n = strnlen(from, size);
    if (n == size) {
        memcpy(to, from, size - 1);
        to[size - 1] = '\0';
        return -E2BIG;
    }
    memcpy(to, from, n + 1);
    return (long)n;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}
