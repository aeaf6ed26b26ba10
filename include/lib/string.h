// The C library's memory and string functions, freestanding. Context: any.
#pragma once

#include <lib/types.h>

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memchr(const void *s, int byte, size_t size);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t max);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
char *strstr(const char *s, const char *what);
size_t strspn(const char *s, const char *accept);
size_t strcspn(const char *s, const char *reject);

// Copies at most size-1 bytes and always ends with NUL. Returns the length copied, or -E2BIG when
// it did not fit.
long strscpy(char *to, const char *from, size_t size);

// True when s begins with prefix.
bool str_starts(const char *s, const char *prefix);
