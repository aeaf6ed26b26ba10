// Names of addresses: a sorted table of the kernel's own symbols, built in by a second link
// (tools/kallsyms.awk).
#pragma once

#include <lib/text.h>
#include <lib/types.h>

// The symbol at or below the address and the offset into it; NULL when the address is not the
// kernel's. Context: any.
const char *kallsyms_lookup(uintptr_t address, uintptr_t *offset);
// The address of a symbol, 0 when there is none.
uintptr_t kallsyms_address(const char *name);
// Writes "symbol+0x12" or the bare number.
void text_symbol(struct text *t, uintptr_t address);
