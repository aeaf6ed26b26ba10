// Programs that are part of the kernel's image: whole ELF files, made from user/ and embedded by
// user/embed.S, a record each. Until there is a file system with programs on it, these are all.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

struct program {
    const char *name;
    const uint8_t *start, *end; // the ELF file
};

// NULL when there is none of this name. Context: any.
const struct program *program_find(const char *name);
// The k-th by name, NULL behind the last.
const struct program *program_list(unsigned k);
