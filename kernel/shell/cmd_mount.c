// mount, umount: disks as trees of files.
//
// Context: the command's thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/command.h>
#include <fs/mount.h>
#include "source.h"

enum { MOUNT_LINE_MOST = 256 }; // bytes of a line of /proc/mounts

// A line of /proc/mounts, "/dev/sr0 /mnt iso9660 ro 0 0", as mount(8) says it. The kernel shows no
// name with a blank in it (kernel/fs/mount.c).
static void mount_show_line(struct shell *sh, char *line)
{
    char *field[4];
    for (unsigned i = 0; i < ARRAY_SIZE(field); i++) {
        size_t length = strcspn(line, " ");
        field[i] = line;
        line += length + (line[length] == ' ');
        field[i][length] = '\0';
    }
    shell_printf(sh, "%s on %s type %s (%s)\n", field[0], field[1], field[2], field[3]);
}

// Shows the whole lines in [data, data + length); how many bytes they are.
static size_t mount_show_lines(struct shell *sh, char *data, size_t length)
{
    char *line = data, *end;
    while ((end = memchr(line, '\n', length - (size_t)(line - data))) != NULL) {
        *end = '\0';
        mount_show_line(sh, line);
        line = end + 1;
    }
    return (size_t)(line - data);
}

// What is mounted, from /proc/mounts.
static int mount_show(struct shell *sh)
{
    struct source source;
    char data[MOUNT_LINE_MOST];
    size_t length = 0;
    long count = source_open(&source, sh, "/proc/mounts");
    if (count != 0) {
        return shell_error(sh, "/proc/mounts: %s", strerror((int)count));
    }
    while ((count = source_read_some(&source, data + length, sizeof(data) - length)) > 0) {
        length += (size_t)count;
        size_t shown = mount_show_lines(sh, data, length);
        length -= shown;
        memmove(data, data + shown, length);
    }
    source_close(&source);
    return count < 0 ? shell_error(sh, "/proc/mounts: %s", strerror((int)count)) : 0;
}

// Of the options all that a read-only file system means anyway is taken. NULL: all are good.
static const char *mount_bad_option(const char *list)
{
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        if (length != 2 || strncmp(list, "ro", 2) != 0) {
            return list;
        }
        list += length + (list[length] == ',');
    }
    return NULL;
}

static int mount_disk(struct shell *sh, const char *source, const char *point, const char *type)
{
    const char *why;
    int error = vfs_mount(source, point, type, &why);
    if (error == 0 || error == -EINTR) {
        return 0;
    }
    return shell_error(sh, "%s on %s: %s", source, point, why != NULL ? why : strerror(error));
}

static int cmd_mount(struct shell *sh, int argc, char **argv)
{
    const char *names[2], *type = NULL;
    int count = 0;
    if (argc == 1) {
        return mount_show(sh);
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-r") == 0) {
            continue;
        }
        if ((strcmp(argv[i], "-t") == 0 || strcmp(argv[i], "-o") == 0) && i + 1 == argc) {
            return shell_usage(sh, "%s: of what?", argv[i]);
        }
        if (strcmp(argv[i], "-t") == 0) {
            type = argv[++i];
        } else if (strcmp(argv[i], "-o") == 0) {
            const char *bad = mount_bad_option(argv[++i]);
            if (bad != NULL) {
                return shell_usage(sh, "%s: only read-only mounts are there (-o ro)", bad);
            }
        } else if (argv[i][0] == '-') {
            return shell_usage(sh, "%s: unknown option", argv[i]);
        } else if (count == 2) {
            return shell_usage(sh, "too many names");
        } else {
            names[count++] = argv[i];
        }
    }
    if (count != 2) {
        return shell_usage(sh, "which disk, and where?");
    }
    return mount_disk(sh, names[0], names[1], type);
}

static int cmd_umount(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    if (argc == 1) {
        return shell_usage(sh, "what?");
    }
    for (int i = 1; i < argc; i++) {
        int error = vfs_umount(argv[i]);
        if (error != 0) {
            status = shell_error(sh, "%s: %s", argv[i],
                                 error == -EINVAL  ? "not mounted"
                                 : error == -EBUSY ? "target is busy: a file below it is open"
                                                   : strerror(error));
        }
    }
    return status;
}

COMMAND(
    "mount", cmd_mount, "mount [-r] [-t TYPE] [-o ro] [DISK NAME]",
    "show a disk's files below a name such as /mnt, read-only\nThe name must be one step below /, "
    "and be free. Without arguments: what is mounted. TYPE: see "
    "/proc/filesystems.");
COMMAND("umount", cmd_umount, "umount NAME|DISK...", "end that; not while a file of it is open");
