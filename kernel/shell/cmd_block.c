// lsblk: which disks there are, as util-linux prints them; sync: what was written reaches the
// disks.
//
// A column is a title, an alignment and a function that writes its cell; the widths are those of
// the widest cell.
//
// Context: the command's thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <dev/block.h>
#include <dev/page_cache.h>
#include <fs/mount.h>

enum { LSBLK_CELL = 48 };

struct lsblk {
    struct shell *sh;
    bool bytes, headings;
    const char *only[8]; // names, none: all
    unsigned only_count;
    unsigned columns[12]; // indexes of lsblk_columns
    unsigned column_count;
    size_t widths[12];
};

// "64M", "1.5G": one decimal where it is not zero.
static void lsblk_size(struct text *t, uint64_t bytes)
{
    static const char units[] = "BKMGTPE";
    unsigned unit = 0;
    while (unit < 6 && bytes >> (10 * (unit + 1)) != 0) {
        unit++;
    }
    uint64_t whole = bytes >> (10 * unit), tenths = 0;
    if (unit != 0) {
        uint64_t fraction = bytes >> (10 * (unit - 1)) & 1023;
        tenths = (fraction * 10 + 512) / 1024;
        whole += tenths / 10;
        tenths %= 10;
    }
    text_printf(t, "%llu", (unsigned long long)whole);
    if (tenths != 0) {
        text_printf(t, ".%llu", (unsigned long long)tenths);
    }
    text_putc(t, units[unit]);
}

// Is there no partition of the same disk after this one?
static bool lsblk_is_last(const struct gendisk *disk)
{
    bool behind = false, last = true;
    for (struct gendisk *other = blk_next(NULL); other != NULL; other = blk_next(other)) {
        last = last && !(behind && other->whole == disk->whole);
        behind = behind || other == disk;
    }
    return last;
}

static void column_name(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_printf(t, "%s%s",
                disk->partition == 0  ? ""
                : lsblk_is_last(disk) ? "`-"
                                      : "|-",
                disk->name);
}

static void column_numbers(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_printf(t, "%3u:%-3u", disk->major, disk->minor);
}

static void column_removable(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->removable || str_starts(disk->name, "sr") ? "1" : "0");
}

static void column_size(struct text *t, const struct gendisk *disk, bool bytes)
{
    if (bytes) {
        text_printf(t, "%llu", (unsigned long long)disk->capacity * SECTOR_SIZE);
    } else {
        lsblk_size(t, disk->capacity * SECTOR_SIZE);
    }
}

static void column_read_only(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->read_only ? "1" : "0");
}

static void column_type(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->partition != 0 ? "part" : str_starts(disk->name, "sr") ? "rom" : "disk");
}

static void column_mount_point(struct text *t, const struct gendisk *disk, bool bytes)
{
    char point[LSBLK_CELL];
    (void)bytes;
    vfs_mount_point(disk->name, point, sizeof(point));
    text_puts(t, point);
}

static void column_model(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->model);
}

static void column_serial(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->serial);
}

static void column_firmware(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->firmware);
}

static void column_transport(struct text *t, const struct gendisk *disk, bool bytes)
{
    (void)bytes;
    text_puts(t, disk->transport == NULL ? "" : disk->transport);
}

static const struct lsblk_column {
    const char *title;
    bool right;
    uint8_t min_width;
    void (*cell)(struct text *t, const struct gendisk *disk, bool bytes);
} lsblk_columns[] = {
    {"NAME", false, 4, column_name},
    {"MAJ:MIN", false, 7, column_numbers},
    {"RM", true, 2, column_removable},
    {"SIZE", true, 5, column_size},
    {"RO", true, 2, column_read_only},
    {"TYPE", false, 4, column_type},
    {"MOUNTPOINTS", false, 0, column_mount_point},
    {"MODEL", false, 5, column_model},
    {"SERIAL", false, 6, column_serial},
    {"REV", false, 3, column_firmware},
    {"TRAN", false, 4, column_transport},
};
enum { LSBLK_USUAL = 7 }; // the first so many, unless -o says otherwise

static bool lsblk_wanted(const struct lsblk *ls, const struct gendisk *disk)
{
    bool wanted = ls->only_count == 0;
    for (unsigned i = 0; i < ls->only_count; i++) {
        wanted = wanted || strcmp(ls->only[i], disk->name) == 0;
    }
    return wanted;
}

static void lsblk_measure(struct lsblk *ls)
{
    for (unsigned i = 0; i < ls->column_count; i++) {
        const struct lsblk_column *column = &lsblk_columns[ls->columns[i]];
        ls->widths[i] = max((size_t)column->min_width, ls->headings ? strlen(column->title) : 0);
    }
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        for (unsigned i = 0; i < ls->column_count && lsblk_wanted(ls, disk); i++) {
            char buffer[LSBLK_CELL];
            struct text t = TEXT_INIT(buffer);
            lsblk_columns[ls->columns[i]].cell(&t, disk, ls->bytes);
            ls->widths[i] = max(ls->widths[i], t.length);
        }
    }
}

// One row; `disk` NULL: the titles.
static void lsblk_row(const struct lsblk *ls, const struct gendisk *disk)
{
    for (unsigned i = 0; i < ls->column_count; i++) {
        const struct lsblk_column *column = &lsblk_columns[ls->columns[i]];
        char buffer[LSBLK_CELL] = "";
        struct text t = TEXT_INIT(buffer);
        int width = (int)ls->widths[i];
        if (disk == NULL) {
            text_puts(&t, column->title);
        } else {
            column->cell(&t, disk, ls->bytes);
        }
        bool last = i + 1 == ls->column_count;
        shell_printf(ls->sh, column->right ? "%*s%s" : "%-*s%s", last && !column->right ? 0 : width,
                     buffer, last ? "\n" : " ");
    }
}

// "NAME,SIZE". False: a name that is no column.
static bool lsblk_parse_columns(struct lsblk *ls, const char *list)
{
    ls->column_count = 0;
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        unsigned i = 0;
        while (i < ARRAY_SIZE(lsblk_columns) &&
               (strlen(lsblk_columns[i].title) != length ||
                strncmp(lsblk_columns[i].title, list, length) != 0)) {
            i++;
        }
        if (i == ARRAY_SIZE(lsblk_columns) || ls->column_count == ARRAY_SIZE(ls->columns)) {
            return false;
        }
        ls->columns[ls->column_count++] = i;
        list += length + (list[length] == ',');
    }
    return ls->column_count != 0;
}

static int cmd_lsblk(struct shell *sh, int argc, char **argv)
{
    struct lsblk ls = {.sh = sh, .headings = true, .column_count = LSBLK_USUAL};
    int status = 0;

    for (unsigned i = 0; i < LSBLK_USUAL; i++) {
        ls.columns[i] = i;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-b") == 0) {
            ls.bytes = true;
        } else if (strcmp(argv[i], "-n") == 0) {
            ls.headings = false;
        } else if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) {
            if (!lsblk_parse_columns(&ls, argv[++i])) {
                return shell_usage(sh, "no such column in %s", argv[i]);
            }
        } else if (argv[i][0] == '-') {
            return shell_usage(sh, "no such option: %s", argv[i]);
        } else if (ls.only_count == ARRAY_SIZE(ls.only)) {
            return shell_usage(sh, "too many disks at once");
        } else {
            const char *name = str_starts(argv[i], "/dev/") ? argv[i] + 5 : argv[i];
            struct gendisk *disk = blk_find(name);
            if (disk == NULL) {
                status = shell_error(sh, "%s: not a block device", argv[i]);
                continue;
            }
            blk_put(disk);
            ls.only[ls.only_count++] = name;
        }
    }
    struct gendisk *disk = status != 0 && ls.only_count == 0 ? NULL : blk_next(NULL);
    if (disk == NULL) {
        return status; // no disks, no headings: as lsblk does it
    }
    lsblk_measure(&ls);
    if (ls.headings) {
        lsblk_row(&ls, NULL);
    }
    for (; disk != NULL; disk = blk_next(disk)) {
        if (lsblk_wanted(&ls, disk)) {
            lsblk_row(&ls, disk);
        }
    }
    return status;
}

// What is dirty in the page cache goes to the disks, and their own caches to the medium.
static int cmd_sync(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "it takes no arguments");
    }
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        int error = disk->whole != NULL ? 0 : page_cache_sync(disk, 0); // a partition with its disk
        if (error != 0) {
            status = shell_error(sh, "%s: %s", disk->name, strerror(error));
        }
    }
    return status;
}

COMMAND("sync", cmd_sync, "sync",
        "write what is dirty in the page cache, and have every disk write out its own");
COMMAND("lsblk", cmd_lsblk, "lsblk [-b] [-n] [-o COLUMN,...] [DISK]...",
        "list the disks\n-b: sizes in bytes. -n: no headings.\n-o: NAME MAJ:MIN RM SIZE RO TYPE "
        "MOUNTPOINTS MODEL SERIAL REV TRAN.");
