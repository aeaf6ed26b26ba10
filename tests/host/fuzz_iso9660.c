// A CD from somebody who means harm: whatever stands on it, nothing is read outside of the disk,
// every walk ends, names are names, and what an entry says lies within the volume.
//
// The input is the disk from its sector 16 on, where the descriptors are; before that there is
// nothing to be read.
//
// links: kernel/fs/iso9660_dir.c kernel/lib/string.c

#include <lib/errno.h>
#include <lib/string.h>

#include "../../kernel/fs/iso9660_dir.h"

#include "fuzz.h"

enum { DISK_START = 16 * ISO_SECTOR_SIZE };

static const uint8_t *input;
static uint64_t disk_size;
static unsigned reads;

static int disk_read(void *context, uint64_t offset, void *to, size_t size)
{
    (void)context;
    MUST(size != 0 && offset <= disk_size && size <= disk_size - offset);
    reads++;
    for (size_t i = 0; i < size; i++) {
        uint64_t at = offset + i;
        ((uint8_t *)to)[i] = at < DISK_START ? 0 : input[at - DISK_START];
    }
    return 0;
}

static void check_entry(const struct iso_volume *volume, const struct iso_entry *entry)
{
    size_t length = strnlen(entry->name, sizeof(entry->name));
    MUST(length != 0 && length < sizeof(entry->name));
    MUST(strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0);
    for (size_t i = 0; i < length; i++) {
        MUST(entry->name[i] >= 0x20 && entry->name[i] < 0x7f && entry->name[i] != '/');
    }
    MUST(entry->start <= volume->size && entry->size <= volume->size - entry->start);
}

// Goes through a directory, and finds each of its names again by a lookup below `path`.
static void walk_through(const struct iso_volume *volume, const struct iso_entry *directory,
                         const char *path, unsigned depth)
{
    struct iso_walk *walk = malloc(sizeof(*walk)), *other = malloc(sizeof(*other));
    static struct iso_entry found;
    struct iso_entry entry;
    unsigned names = 0;
    int error;
    iso_walk_start(walk, volume, directory);
    while ((error = iso_walk_next(walk, &entry)) == 0) {
        char below[2 * ISO_NAME_SIZE + 2];
        size_t length = strlen(path);
        check_entry(volume, &entry);
        MUST(++names <= directory->size / 34 + 1);
        memcpy(below, path, length);
        if (length != 0) {
            below[length++] = '/';
        }
        strscpy(below + length, entry.name, sizeof(below) - length);
        if (names <= 8) {
            MUST(iso_lookup(other, volume, below, &found) == 0);
            MUST(strcmp(found.name, entry.name) == 0);
        }
        if (depth != 0 && names <= 4 && found.kind == ISO_DIRECTORY && found.readable) {
            struct iso_entry inner = found;
            walk_through(volume, &inner, below, depth - 1);
        }
    }
    MUST(error == -ENOENT || error == -EINVAL);
    free(walk);
    free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct iso_volume volume;
    const char *why;
    input = data;
    disk_size = DISK_START + size;
    reads = 0;
    int error = iso_find_volume(&volume, disk_size, disk_read, NULL, &why);
    MUST((error == 0) == (why == NULL));
    if (error == 0) {
        MUST(volume.size <= disk_size && strnlen(volume.label, sizeof(volume.label)) <= 32);
        walk_through(&volume, &volume.root, "", 1);
    }
    MUST(reads < 100000);
    return 0;
}
