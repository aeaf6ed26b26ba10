// Patterns for grep: pure, tested on the host.
#pragma once

#include <lib/types.h>

// True when the pattern matches somewhere in the text. ^ and $ stand for its ends, '.' for any
// byte, [a-z] and [^a-z] for a set, '*' for any number of what stands before it, '\' takes the
// meaning of the next away.
bool match_text(const char *pattern, const char *text, bool ignore_case);
// NULL when it is a pattern, else what is wrong with it.
const char *match_check(const char *pattern);
