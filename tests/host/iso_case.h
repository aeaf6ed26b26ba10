// What the tests of discs share: a disc in memory, and the parser asked about it.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <lib/string.h>

#include "../../kernel/fs/iso9660_dir.h"

static uint8_t *disk;
static size_t disk_size;
static unsigned reads;
static struct iso_volume volume;
static struct iso_walk walk;
static struct iso_entry entry;
static const char *why;

// Reading past the end is the parser's mistake, whatever the disc says.
static inline int disk_read(void *context, uint64_t offset, void *to, size_t size)
{
    (void)context;
    assert_true(size != 0 && offset <= disk_size && size <= disk_size - offset);
    memcpy(to, disk + offset, size);
    reads++;
    return 0;
}

static inline int find(void)
{
    return iso_find_volume(&volume, disk_size, disk_read, NULL, &why);
}

static inline int look_up(const char *path)
{
    return iso_lookup(&walk, &volume, path, &entry);
}

// All names of a directory with a '/' behind each, in the disc's order.
static inline const char *names_of(const char *path)
{
    static char names[4096];
    names[0] = '\0';
    assert_int_equal(look_up(path), 0);
    iso_walk_start(&walk, &volume, &entry);
    int error;
    while ((error = iso_walk_next(&walk, &entry)) == 0) {
        assert_true(strlen(names) + strlen(entry.name) + 2 < sizeof(names));
        strscpy(names + strlen(names), entry.name, sizeof(names) - strlen(names));
        strscpy(names + strlen(names), "/", 2);
    }
    assert_int_equal(error, -ENOENT);
    return names;
}
