// Reads what a CD says of itself: ISO 9660, with Rock Ridge where it has that.
//
//   sector 16   [ 1 "CD001" | size | block size | record of the root ]   primary descriptor
//   sector 17.. [ other kinds ] ... [ 255 "CD001" ]                      the last one
//
//   directory   [ record | record | record | 0 0 0 ][ record | ... ]     none crosses a sector
//   record      [ length | where | how much | flags | name | system use ]
//                                                              └─ [ "NM" name ][ "PX" mode ]
//                                                                 [ "CE" ──> more of it elsewhere ]
//
// A CD has two sets of names: its own ("README.TXT;1", shown as readme.txt), and in the system use
// area those of the system that it was made on. Numbers stand twice, low and high byte first; only
// the first is read, as discs exist whose second is wrong. Of a file in several parts each must
// follow the one before without a gap, which is how they are written.
//
// Nothing here is believed. Every place is compared with the volume's end before it is read, a
// record with the sector and the directory that it lies in, an entry with its record. A walk goes
// forward only, and continuations are counted; a path, not the disc, says how deep a search goes,
// so a directory that contains itself does no harm.
//
// Not read: Joliet's names, interleaved files, where relocated directories once were.
//
// ECMA-119 (3rd edition), 8 and 9; IEEE P1281 (SUSP 1.12); P1282 (RRIP 1.12). Context: that of the
// reader. Next: iso9660.c.
#include <lib/errno.h>
#include <lib/string.h>

#include "iso9660_dir.h"

enum {
    DESCRIPTORS_AT = 16, // sector: ECMA-119, 6.2.1
    DESCRIPTORS_MOST = 32,
    DESCRIPTOR_PRIMARY = 1, // 8.1.1
    DESCRIPTOR_LAST = 255,
    VOLUME_LABEL = 40, // 8.4
    VOLUME_BLOCKS = 80,
    VOLUME_BLOCK_SIZE = 128,
    VOLUME_ROOT = 156,
    RECORD_EXTRA = 1, // 9.1: blocks of attributes before the data
    RECORD_EXTENT = 2,
    RECORD_SIZE = 10,
    RECORD_FLAGS = 25,
    RECORD_UNIT = 26, // interleaved
    RECORD_GAP = 27,
    RECORD_NAME_LENGTH = 32,
    RECORD_NAME = 33,
    RECORD_LEAST = 34,
    DIRECTORY_MOST = 4 << 20, // bytes: some forty thousand names
    CONTINUATIONS_MOST = 4,   // a name needs two at most
};

enum record_flag { // 9.1.6
    FLAG_DIRECTORY = 0x02,
    FLAG_ASSOCIATED = 0x04,
    FLAG_MORE = 0x80, // another part of the file follows
};

// ---- the volume ---------------------------------------------------------------------------------

// Where a record's data lies. False: not within the volume.
static bool record_place(const struct iso_volume *volume, const uint8_t *record, uint64_t *start,
                         uint64_t *size)
{
    *size = get_le32(record + RECORD_SIZE);
    *start =
        ((uint64_t)get_le32(record + RECORD_EXTENT) + record[RECORD_EXTRA]) * volume->block_size;
    if (*size == 0) {
        *start = 0; // where nothing lies is not said, or nonsense
        return true;
    }
    return *start <= volume->size && *size <= volume->size - *start;
}

// Directories begin where sectors do (6.8.1.1), and have at least themselves in them.
static bool directory_fits(const struct iso_entry *directory)
{
    return directory->size != 0 && directory->size <= DIRECTORY_MOST &&
           directory->start % ISO_SECTOR_SIZE == 0;
}

static void volume_label(char *to, const uint8_t *from)
{
    size_t length = 0;
    for (unsigned i = 0; i < 32; i++) {
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
        length = to[i] != ' ' ? i + 1 : length;
    }
    to[length] = '\0';
}

static int volume_parse(struct iso_volume *volume, const uint8_t *sector, uint64_t disk_size,
                        const char **why)
{
    const uint8_t *root = sector + VOLUME_ROOT;
    volume->block_size = get_le16(sector + VOLUME_BLOCK_SIZE);
    if (volume->block_size != 512 && volume->block_size != 1024 && volume->block_size != 2048) {
        *why = "its blocks are neither of 512, 1024 nor 2048 bytes";
        return -EINVAL;
    }
    volume->size = min((uint64_t)get_le32(sector + VOLUME_BLOCKS) * volume->block_size, disk_size);
    volume_label(volume->label, sector + VOLUME_LABEL);
    volume->root.kind = ISO_DIRECTORY;
    volume->root.readable = true;
    if (!record_place(volume, root, &volume->root.start, &volume->root.size) ||
        !directory_fits(&volume->root) || (root[RECORD_FLAGS] & FLAG_DIRECTORY) == 0) {
        *why = "its root directory is not one, or not within the volume";
        return -EINVAL;
    }
    return 0;
}

// ---- system use ---------------------------------------------------------------------------------

// What a record's system use area said.
struct system_use {
    char *name; // of ISO_NAME_SIZE; "" until an NM
    size_t length;
    bool has_name, too_long, has_mode;
    uint16_t mode; // PX: a Unix mode
};

enum { // of a Unix mode
    MODE_KIND = 0170000,
    MODE_DIRECTORY = 0040000,
    MODE_REGULAR = 0100000,
    MODE_LINK = 0120000,
};

static bool entry_is(const uint8_t *entry, const char *signature)
{
    return entry[0] == (uint8_t)signature[0] && entry[1] == (uint8_t)signature[1];
}

// RRIP, 4.1.4: a name in one piece or several; flags say that it is "." or "..".
static void system_use_name(struct system_use *use, const uint8_t *entry)
{
    size_t count = entry[2] - 5u;
    if (entry[2] < 5 || (entry[4] & 0x06) != 0) {
        return;
    }
    if (count > ISO_NAME_SIZE - 1 - use->length) {
        use->too_long = true;
        return;
    }
    memcpy(use->name + use->length, entry + 5, count);
    use->length += count;
    use->has_name = true;
}

// Follows a CE (SUSP, 5.1). False: it leads nowhere.
static bool system_use_continue(struct iso_walk *walk, const uint8_t *entry, const uint8_t **area,
                                size_t *left, int *error)
{
    const struct iso_volume *volume = walk->volume;
    uint64_t offset = get_le32(entry + 12), length = get_le32(entry + 20);
    uint64_t start = (uint64_t)get_le32(entry + 4) * volume->block_size + offset;
    if (length == 0 || length > sizeof(walk->continuation) || start > volume->size ||
        length > volume->size - start) {
        return false;
    }
    *error = volume->read(volume->context, start, walk->continuation, length);
    *area = walk->continuation;
    *left = length;
    return *error == 0;
}

// Goes through an area and what it continues in. A damaged one ends early; what it said before
// holds. 0 or -errno of the reads.
static int system_use_read(struct iso_walk *walk, const uint8_t *area, size_t left,
                           struct system_use *use)
{
    int error = 0;
    for (unsigned areas = 0; areas < CONTINUATIONS_MOST; areas++) {
        uint8_t next[28];
        bool more = false;
        while (left >= 4 && area[2] >= 4 && area[2] <= left && !entry_is(area, "ST")) {
            if (entry_is(area, "NM")) {
                system_use_name(use, area);
            } else if (entry_is(area, "PX") && area[2] >= 8) {
                use->mode = get_le16(area + 4);
                use->has_mode = true;
            } else if (entry_is(area, "CE") && area[2] >= sizeof(next)) {
                memcpy(next, area, sizeof(next)); // it may lie where its own is read to
                more = true;
            }
            left -= area[2];
            area += area[2];
        }
        if (!more || !system_use_continue(walk, next, &area, &left, &error)) {
            break;
        }
    }
    return error;
}

// The system use area behind a record's name, which is padded to an even place (ECMA-119, 9.1.12).
static const uint8_t *record_system_use(const struct iso_volume *volume, const uint8_t *record,
                                        size_t *size)
{
    size_t start = RECORD_NAME + record[RECORD_NAME_LENGTH];
    start += (start & 1) + volume->skip;
    *size = start < record[0] ? record[0] - start : 0;
    return record + record[0] - *size;
}

// SUSP, 5.3: the first entry of the root's "." says that there are such areas.
static void volume_find_rock_ridge(struct iso_volume *volume, const uint8_t *record)
{
    size_t size;
    const uint8_t *area = record_system_use(volume, record, &size);
    volume->rock_ridge =
        size >= 7 && entry_is(area, "SP") && area[2] >= 7 && area[4] == 0xbe && area[5] == 0xef;
    volume->skip = volume->rock_ridge ? area[6] : 0;
}

// ---- names --------------------------------------------------------------------------------------

// "README.TXT;1" is readme.txt, "MAKEFILE.;1" makefile.
static void name_of_iso(char *to, const uint8_t *from, size_t size)
{
    size_t length = 0;
    while (length < size && from[length] != ';') {
        uint8_t c = from[length];
        to[length++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    while (length > 1 && to[length - 1] == '.') {
        length--;
    }
    to[length] = '\0';
}

// What would mislead a terminal or a path. False: no name at all.
static bool name_is_made_fit(char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t c = (uint8_t)name[i];
        if (c < 0x20 || c >= 0x7f || c == '/') {
            name[i] = '?';
        }
    }
    return length != 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static enum iso_kind kind_of(const uint8_t *record, const struct system_use *use)
{
    if ((record[RECORD_FLAGS] & FLAG_DIRECTORY) != 0) {
        return ISO_DIRECTORY;
    }
    switch (use->has_mode ? use->mode & MODE_KIND : MODE_REGULAR) {
    case MODE_REGULAR:
    case MODE_DIRECTORY: // not by the disc's own flag: a relocated one's old place
        return ISO_REGULAR;
    case MODE_LINK:
        return ISO_LINK;
    default:
        return ISO_SPECIAL;
    }
}

// ---- directories --------------------------------------------------------------------------------

void iso_walk_start(struct iso_walk *walk, const struct iso_volume *volume,
                    const struct iso_entry *directory)
{
    walk->volume = volume;
    walk->start = directory->start;
    walk->size = directory->size;
    walk->at = 0;
    walk->loaded = UINT64_MAX;
}

// The sector that byte `at` of the directory lies in. The last one of a volume may be cut.
static int walk_load(struct iso_walk *walk)
{
    const struct iso_volume *volume = walk->volume;
    uint64_t place = walk->start + ALIGN_DOWN(walk->at, (uint64_t)ISO_SECTOR_SIZE);
    if (place == walk->loaded) {
        return 0;
    }
    size_t size = (size_t)min(volume->size - place, (uint64_t)ISO_SECTOR_SIZE);
    memset(walk->sector, 0, sizeof(walk->sector));
    int error = volume->read(volume->context, place, walk->sector, size);
    walk->loaded = error == 0 ? place : UINT64_MAX;
    return error;
}

// The next record, and past it. 0, -ENOENT: the end, -EINVAL, -errno.
static int walk_record(struct iso_walk *walk, const uint8_t **record)
{
    while (walk->at < walk->size) {
        int error = walk_load(walk);
        if (error != 0) {
            return error;
        }
        uint32_t place = (uint32_t)(walk->at % ISO_SECTOR_SIZE);
        const uint8_t *r = walk->sector + place;
        uint64_t left = min((uint64_t)(ISO_SECTOR_SIZE - place), walk->size - walk->at);
        if (r[0] == 0) { // the rest of the sector is empty
            walk->at += left;
            continue;
        }
        if (r[0] < RECORD_LEAST || r[0] > left ||
            RECORD_NAME + (uint32_t)r[RECORD_NAME_LENGTH] > r[0]) {
            walk->at = walk->size; // where the next one begins cannot be known
            return -EINVAL;
        }
        walk->at += r[0];
        *record = r;
        return 0;
    }
    return -ENOENT;
}

// "." is a name of one byte, 0; ".." one of 1 (6.8.2.2).
static bool record_is_dot(const uint8_t *record)
{
    return record[RECORD_NAME_LENGTH] == 1 && record[RECORD_NAME] <= 1;
}

// Adds a part to the file that the entry is so far. Sets `readable` to false where it does not
// follow, or lies where nothing can be read.
static void entry_add_part(const struct iso_volume *volume, struct iso_entry *entry,
                           const uint8_t *record, bool first)
{
    uint64_t start, size;
    bool fits = record_place(volume, record, &start, &size) && record[RECORD_UNIT] == 0 &&
                record[RECORD_GAP] == 0;
    if (first) {
        entry->start = fits ? start : 0;
        entry->size = fits ? size : 0;
        entry->readable = fits;
    } else if (!fits || start != entry->start + entry->size ||
               entry->size % volume->block_size != 0) {
        entry->readable = false;
    } else {
        entry->size += size; // both are within the volume, one behind the other
    }
}

// The other parts of a file: records of their own, with the same name, behind the first.
static int walk_parts(struct iso_walk *walk, struct iso_entry *entry)
{
    const uint8_t *record;
    int error;
    do {
        error = walk_record(walk, &record);
        if (error != 0) {
            entry->readable = false; // a part is missing
            return error == -ENOENT ? 0 : error;
        }
        entry_add_part(walk->volume, entry, record, false);
    } while ((record[RECORD_FLAGS] & FLAG_MORE) != 0);
    return 0;
}

// Makes an entry of a record. 0; -EAGAIN: it is none to be shown.
static int walk_entry(struct iso_walk *walk, const uint8_t *record, struct iso_entry *entry)
{
    struct system_use use = {.name = entry->name};
    int error = 0;
    if (walk->volume->rock_ridge) {
        size_t size;
        const uint8_t *area = record_system_use(walk->volume, record, &size);
        error = system_use_read(walk, area, size, &use);
    }
    entry->name[use.length] = '\0';
    if (!use.has_name || use.too_long) {
        name_of_iso(entry->name, record + RECORD_NAME, record[RECORD_NAME_LENGTH]);
        use.length = strlen(entry->name);
    }
    entry->kind = kind_of(record, &use);
    entry_add_part(walk->volume, entry, record, true);
    if (error == 0 && (record[RECORD_FLAGS] & FLAG_MORE) != 0) {
        error = walk_parts(walk, entry);
    }
    if (entry->kind == ISO_DIRECTORY && !directory_fits(entry)) {
        entry->readable = false;
    }
    return error == 0 && !name_is_made_fit(entry->name, use.length) ? -EAGAIN : error;
}

int iso_walk_next(struct iso_walk *walk, struct iso_entry *entry)
{
    const uint8_t *record;
    int error;
    do {
        error = walk_record(walk, &record);
        if (error == 0) {
            bool hidden = record_is_dot(record) || (record[RECORD_FLAGS] & FLAG_ASSOCIATED) != 0;
            error = hidden ? -EAGAIN : walk_entry(walk, record, entry);
        }
    } while (error == -EAGAIN);
    return error;
}

// One step down: `name` of so many letters in a directory.
static int lookup_name(struct iso_walk *walk, const struct iso_volume *volume, const char *name,
                       size_t length, struct iso_entry *entry)
{
    if (entry->kind != ISO_DIRECTORY) {
        return -ENOTDIR;
    }
    if (!entry->readable) {
        return -EINVAL;
    }
    iso_walk_start(walk, volume, entry);
    int error;
    while ((error = iso_walk_next(walk, entry)) == 0) {
        if (strlen(entry->name) == length && memcmp(entry->name, name, length) == 0) {
            break;
        }
    }
    return error;
}

int iso_lookup(struct iso_walk *walk, const struct iso_volume *volume, const char *path,
               struct iso_entry *entry)
{
    int error = 0;
    *entry = volume->root;
    while (*path != '\0' && error == 0) {
        size_t length = strcspn(path, "/");
        error = lookup_name(walk, volume, path, length, entry);
        path += length;
        path += *path == '/';
    }
    return error;
}

// ---- finding it ---------------------------------------------------------------------------------

// The first record of the root directory is its own, and carries what Rock Ridge says of the whole.
static int volume_read_root(struct iso_volume *volume, uint8_t *sector)
{
    size_t size = (size_t)min(volume->size - volume->root.start, (uint64_t)ISO_SECTOR_SIZE);
    int error = volume->read(volume->context, volume->root.start, sector, size);
    if (error == 0 && size >= RECORD_LEAST && sector[0] >= RECORD_LEAST && sector[0] <= size &&
        record_is_dot(sector)) {
        volume_find_rock_ridge(volume, sector);
    }
    return error;
}

int iso_find_volume(struct iso_volume *volume, uint64_t disk_size, iso_read_t read, void *context,
                    const char **why)
{
    uint8_t sector[ISO_SECTOR_SIZE];
    *volume = (struct iso_volume){.read = read, .context = context};
    for (uint64_t i = DESCRIPTORS_AT; i < DESCRIPTORS_AT + DESCRIPTORS_MOST; i++) {
        *why = "it has no ISO 9660 volume";
        if ((i + 1) * ISO_SECTOR_SIZE > disk_size) {
            return -EINVAL;
        }
        int error = read(context, i * ISO_SECTOR_SIZE, sector, sizeof(sector));
        if (error != 0) {
            *why = "its descriptors cannot be read";
            return error;
        }
        if (memcmp(sector + 1, "CD001", 5) != 0 || sector[0] == DESCRIPTOR_LAST) {
            return -EINVAL;
        }
        if (sector[0] == DESCRIPTOR_PRIMARY && sector[6] == 1) {
            error = volume_parse(volume, sector, disk_size, why);
            if (error == 0) {
                *why = "its root directory cannot be read";
                error = volume_read_root(volume, sector);
            }
            *why = error == 0 ? NULL : *why;
            return error;
        }
    }
    return -EINVAL;
}
