// What lies on a CD: the volume, its directories, where a file's bytes are. Pure: whoever calls
// brings the bytes. Tested on the host and fuzzed.
#pragma once

#include <lib/types.h>

enum {
    ISO_SECTOR_SIZE = 2048, // ECMA-119, 6.1.2: what the descriptors are in
    ISO_NAME_SIZE = 256,    // with the NUL
};

// Reads bytes of the disk, all of them or none: 0 or -errno. Asked only for what lies within it.
typedef int (*iso_read_t)(void *context, uint64_t offset, void *to, size_t size);

enum iso_kind { ISO_REGULAR, ISO_DIRECTORY, ISO_LINK, ISO_SPECIAL };

struct iso_entry {
    char name
        [ISO_NAME_SIZE]; // printable ASCII ('?' for the rest), never "", "." or "..", without '/'
    enum iso_kind kind;
    uint64_t start; // bytes from the disk's beginning;
    uint64_t size;  // start + size is within the volume
    bool readable;  // false: it is there, but in a way that is not understood
};

struct iso_volume {
    iso_read_t read;
    void *context;
    uint64_t size;       // bytes: of the volume, or the disk if that is smaller
    uint32_t block_size; // bytes: 512, 1,024 or 2,048
    bool rock_ridge;     // names and kinds are those of a Unix system
    uint8_t skip;        // bytes before them in each record
    char label[33];      // trimmed
    struct iso_entry root;
};

// Finds the volume on a disk of so many bytes. 0; -EINVAL: there is none that can be read, *why
// says what in words; -errno of the reads. Context: that of read, which is kept in *volume.
int iso_find_volume(struct iso_volume *volume, uint64_t disk_size, iso_read_t read, void *context,
                    const char **why);

// A walk through a directory, in its own memory: some 5 KiB, so not on a stack.
struct iso_walk {
    const struct iso_volume *volume;
    uint64_t start, size; // of the directory
    uint64_t at;          // bytes into it: the next record
    uint64_t loaded;      // which sector of the disk `sector` is; UINT64_MAX: none
    uint8_t sector[ISO_SECTOR_SIZE];
    uint8_t continuation[ISO_SECTOR_SIZE]; // what did not fit into a record
};

void iso_walk_start(struct iso_walk *walk, const struct iso_volume *volume,
                    const struct iso_entry *directory);
// The next name. 0; -ENOENT: there is none; -EINVAL: the directory contradicts itself; -errno of
// the reads. Ends after at most size / 34 calls.
int iso_walk_next(struct iso_walk *walk, struct iso_entry *entry);

// What a path leads to, "" for the root, names between single slashes. 0, -ENOENT, -ENOTDIR, and
// what iso_walk_next has. The walk is only room to work in.
int iso_lookup(struct iso_walk *walk, const struct iso_volume *volume, const char *path,
               struct iso_entry *entry);
