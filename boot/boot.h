// What the files of boot/ share: the two readers of what a loader left, and their common tail.
#pragma once

#include <contract/boot_info.h>
#include <lib/types.h>

#define MULTIBOOT2_MAGIC 0x36d76289 // in eax (Multiboot2 3.2)
#define PVH_START_MAGIC  0x336ec578 // first word of hvm_start_info

// `size` readable bytes at a physical address, or NULL: how the readers see memory, so that tests
// can give them theirs.
typedef const void *boot_map_fn(phys_t address, uint64_t size);

// Reads the tags of a multiboot2 information structure of at most `size` readable bytes. What makes
// no sense is left out and noted; *boot (zeroed by the caller) never holds anything unchecked.
// Pure. Context: any.
void multiboot2_read(const void *info, size_t size, struct boot_info *boot);

// The same for PVH's hvm_start_info at a physical address.
void pvh_read(phys_t start_info, boot_map_fn *map, struct boot_info *boot);

// Keeps a complaint for kernel_main to print. `text` must be static. Beyond BOOT_MAX_NOTES they are
// dropped.
void boot_note(struct boot_info *boot, const char *text);
// Adds a region; one that continues its predecessor extends it.
void boot_add_region(struct boot_info *boot, phys_t base, uint64_t size, uint32_t type);
// Adds a module with the given name (not NUL-terminated, cut to fit).
void boot_add_module(struct boot_info *boot, phys_t base, uint64_t size, const char *name,
                     size_t length);
// Copies text of at most `length` bytes, up to a NUL, NUL-terminates it. False when it did not fit.
bool boot_copy_text(char *to, size_t size, const char *from, size_t length);
