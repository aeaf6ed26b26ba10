// An ELF file as far as a program of ours needs it: where its parts lie, and where it starts.
#pragma once

#include <lib/types.h>

enum { ELF_MAX_SEGMENTS = 8 };

struct elf_segment {
    size_t offset, file_size; // in the file
    uintptr_t address;        // in memory
    size_t size;              // there: what the file does not fill is zero
    bool write, execute;
};

struct elf {
    uintptr_t entry;
    unsigned count;
    struct elf_segment segments[ELF_MAX_SEGMENTS];
};

// Reads the headers of a static program that lies in [begin, end) when loaded. 0, or -ENOEXEC:
// something about it is wrong, or nothing would be executable at its entry. Context: any.
int elf_read(const uint8_t *file, size_t size, uintptr_t begin, uintptr_t end, struct elf *elf);
