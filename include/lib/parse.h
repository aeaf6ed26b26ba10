// Numbers typed by people or found in files: checked, never cut. Context: any.
#pragma once

#include <lib/types.h>

// Parse the whole string (a trailing newline is allowed) in the given base (0: 0x and 0 prefixes
// decide). Returns 0, -EINVAL for anything that is not a number, -ERANGE when it does not fit.
// Linux: kstrtoull.
int kstrtou64(const char *s, unsigned base, uint64_t *value);
int kstrtou32(const char *s, unsigned base, uint32_t *value);
int kstrtos32(const char *s, unsigned base, int32_t *value);

// A size with suffix k, K, M, G (powers of 1024): "64M". 0, -EINVAL or -ERANGE.
int parse_size(const char *s, uint64_t *bytes);

// "a.b.c.d" to host byte order. 0 or -EINVAL.
int parse_ipv4(const char *s, uint32_t *address);
