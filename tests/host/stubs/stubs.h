// What the stubs recorded, for tests to look at.
#pragma once

#include <stddef.h>

// All lines logged since the start or the last stub_log_clear(), each with its newline.
const char *stub_log(void);
void stub_log_clear(void);

// How often WARN_ON fired.
unsigned stub_warnings(void);
