// The value that the compiler's stack protector puts before each return address, and what happens
// when it is found changed.
#pragma once

#include <lib/types.h>

// Mixes in entropy (RDRAND where there is, the TSC always). Call once, from a function that never
// returns. Context: boot.
void stack_protector_init(uint64_t entropy);
