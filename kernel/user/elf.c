// An ELF file's headers, read without trust: no number of them is used before it is checked.
//
//   file   [ELF header | program headers | ... parts ...]
//
// Only parts of type LOAD count. Two must not share a page, as each page has the rights of one.
// System V ABI, chapters 4 and 5 ("Object Files", "Program Loading"); the same, AMD64 supplement.
// Context: any; pure.
#include <lib/errno.h>
#include <lib/string.h>
#include <x86/pte.h>
#include "elf.h"

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_headers, section_headers;
    uint32_t flags;
    uint16_t size, program_header_size, program_header_count;
    uint16_t section_header_size, section_header_count, section_names;
};
_Static_assert(sizeof(struct elf_header) == 64, "System V ABI, figure 4-3, 64 bits");

struct elf_program_header {
    uint32_t type, flags;
    uint64_t offset, address, physical, file_size, size, alignment;
};
_Static_assert(sizeof(struct elf_program_header) == 56, "System V ABI, figure 5-1, 64 bits");

enum { ELF_EXECUTABLE = 2, ELF_X86_64 = 62, ELF_LOAD = 1, ELF_EXECUTE = 1, ELF_WRITE = 2 };

static const uint8_t elf_ident[] = {0x7f, 'E', 'L', 'F', 2 /* 64 bits */, 1 /* low byte first */};

static bool elf_header_is_good(const struct elf_header *header, size_t size)
{
    return memcmp(header->ident, elf_ident, sizeof(elf_ident)) == 0 &&
           header->type == ELF_EXECUTABLE && header->machine == ELF_X86_64 &&
           header->program_header_size == sizeof(struct elf_program_header) &&
           header->program_headers <= size &&
           header->program_header_count <=
               (size - header->program_headers) / sizeof(struct elf_program_header);
}

static bool elf_segment_is_good(const struct elf_program_header *part, size_t size, uintptr_t begin,
                                uintptr_t end)
{
    return part->offset <= size && part->file_size <= size - part->offset &&
           part->file_size <= part->size && part->address >= begin && part->address <= end &&
           part->size <= end - part->address &&
           (part->flags & (ELF_WRITE | ELF_EXECUTE)) != (ELF_WRITE | ELF_EXECUTE);
}

static int elf_add_segment(struct elf *elf, const struct elf_program_header *part)
{
    if (elf->count == ELF_MAX_SEGMENTS) {
        return -ENOEXEC;
    }
    struct elf_segment *segment = &elf->segments[elf->count++];
    *segment = (struct elf_segment){
        .offset = part->offset,
        .file_size = part->file_size,
        .address = part->address,
        .size = part->size,
        .write = part->flags & ELF_WRITE,
        .execute = part->flags & ELF_EXECUTE,
    };
    for (const struct elf_segment *other = elf->segments; other < segment; other++) {
        if (ALIGN_DOWN(segment->address, PAGE_SIZE) < other->address + other->size &&
            ALIGN_DOWN(other->address, PAGE_SIZE) < segment->address + segment->size) {
            return -ENOEXEC;
        }
    }
    return 0;
}

static bool elf_entry_is_good(const struct elf *elf)
{
    for (unsigned n = 0; n < elf->count; n++) {
        const struct elf_segment *segment = &elf->segments[n];

        if (segment->execute && elf->entry >= segment->address &&
            elf->entry - segment->address < segment->file_size) {
            return true;
        }
    }
    return false;
}

int elf_read(const uint8_t *file, size_t size, uintptr_t begin, uintptr_t end, struct elf *elf)
{
    struct elf_header header;

    *elf = (struct elf){0};
    if (size < sizeof(header)) {
        return -ENOEXEC;
    }
    memcpy(&header, file, sizeof(header));
    if (!elf_header_is_good(&header, size)) {
        return -ENOEXEC;
    }
    elf->entry = header.entry;
    for (unsigned n = 0; n < header.program_header_count; n++) {
        struct elf_program_header part;

        memcpy(&part, file + header.program_headers + n * sizeof(part), sizeof(part));
        if (part.type != ELF_LOAD || part.size == 0) {
            continue;
        }
        if (!elf_segment_is_good(&part, size, begin, end) || elf_add_segment(elf, &part) != 0) {
            return -ENOEXEC;
        }
    }
    return elf_entry_is_good(elf) ? 0 : -ENOEXEC;
}
