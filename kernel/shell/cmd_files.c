// Looking at files and folders: cat, ls; and cp and rm, for the one place where files can be made.
//
// Context: thread, each in one of its own.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <mm/slab.h>
#include <dev/tty.h>
#include <fs/vfs.h>
#include "console.h"
#include "stream.h"

static int cat_file(struct shell *sh, const char *path)
{
    struct file *file;
    int error = vfs_open(path, OPEN_READ, &file);
    if (error != 0) {
        return shell_result(sh, path, error);
    }
    char data[1024];
    long count;
    while ((count = vfs_read(file, data, sizeof(data))) > 0 && !shell_interrupted(sh)) {
        if (shell_write(sh, data, (size_t)count) != 0) {
            count = 0;
            break;
        }
    }
    vfs_close(file);
    return count < 0 ? shell_result(sh, path, (int)count) : 0;
}

static int cat_input(struct shell *sh)
{
    char data[1024];
    long count;
    while ((count = shell_read(sh, data, sizeof(data))) > 0) {
        if (shell_write(sh, data, (size_t)count) != 0) {
            return 1;
        }
    }
    return count == 0 || count == -EINTR ? 0 : shell_error(sh, "%s", strerror((int)count));
}

static int cmd_cat(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    for (int i = 1; i < argc && !shell_interrupted(sh); i++) {
        int one = strcmp(argv[i], "-") == 0 ? cat_input(sh) : cat_file(sh, argv[i]);
        status = one != 0 ? one : status;
    }
    return argc == 1 ? cat_input(sh) : status;
}

enum { LS_MAX_NAMES = 2048 };

struct ls {
    char **names;
    unsigned count;
    bool is_long;
};

// Numbers by value, everything else by bytes: irq 9 comes before irq 10.
static int ls_compare(const char *a, const char *b)
{
    uint32_t x, y;
    if (kstrtou32(a, 10, &x) == 0 && kstrtou32(b, 10, &y) == 0) {
        return x < y ? -1 : x > y;
    }
    return strcmp(a, b);
}

static int ls_insert(struct ls *ls, const char *name)
{
    size_t size = strlen(name) + 1;
    char *copy = kmalloc(size, GFP_KERNEL);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, name, size);
    unsigned at = ls->count++;
    for (; at > 0 && ls_compare(ls->names[at - 1], name) > 0; at--) {
        ls->names[at] = ls->names[at - 1];
    }
    ls->names[at] = copy;
    return 0;
}

static void ls_show_long(struct shell *sh, const char *name, const struct file_info *info)
{
    const char *mode = info->writable ? "rw-rw-rw-" : "r--r--r--";
    if (info->type == FILE_DIRECTORY) {
        shell_printf(sh, "dr-xr-xr-x %12s %s\n", "-", name);
    } else if (info->type == FILE_REGULAR) {
        shell_printf(sh, "-%s %12llu %s\n", mode, (unsigned long long)info->size, name);
    } else {
        shell_printf(sh, "%c%s %7u, %3u %s\n", info->type == FILE_BLOCK ? 'b' : 'c', mode,
                     info->major, info->minor, name);
    }
}

// Of a name that cannot be asked about nothing is known but that it is there, and why: as Linux's,
// but for the folder, which may leave no room for the reason. The status.
static int ls_show_name(struct shell *sh, const char *folder, const char *name)
{
    char path[PATH_MAX_LENGTH + NAME_MAX_LENGTH];
    struct file_info info;
    snprintf(path, sizeof(path), "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name);
    int error = vfs_stat(path, &info);
    if (error == 0) {
        ls_show_long(sh, name, &info);
    }
    if (error == 0 || error == -EINTR) {
        return 0;
    }
    int status = shell_error(sh, "cannot access '%s': %s", name, strerror(error));
    shell_printf(sh, "-????????? %12s %s\n", "?", name);
    return status;
}

static int ls_show_list(struct shell *sh, const char *folder, const struct ls *ls)
{
    int status = 0;
    for (unsigned i = 0; i < ls->count && !shell_interrupted(sh); i++) {
        if (!ls->is_long) {
            shell_printf(sh, "%s\n", ls->names[i]);
        } else {
            int one = ls_show_name(sh, folder, ls->names[i]);
            status = one != 0 ? one : status;
        }
    }
    return status;
}

// For a person's eyes: as many columns as there is room for, sorted downwards.
static void ls_show_columns(struct shell *sh, const struct ls *ls)
{
    size_t width = 1;
    for (unsigned i = 0; i < ls->count; i++) {
        width = max(width, strlen(ls->names[i]) + 2);
    }
    unsigned columns = max(console_columns / (unsigned)width, 1u);
    unsigned rows = DIV_ROUND_UP(ls->count, columns);
    for (unsigned row = 0; row < rows && !shell_interrupted(sh); row++) {
        for (unsigned i = row; i < ls->count; i += rows) {
            bool last = i + rows >= ls->count;
            shell_printf(sh, "%-*s%s", last ? 0 : (int)width, ls->names[i], last ? "\n" : "");
        }
    }
}

static int ls_show(struct shell *sh, const char *folder, const struct ls *ls)
{
    if (ls->is_long || tty_plain || sh->out->kind != STREAM_CONSOLE) {
        return ls_show_list(sh, folder, ls);
    }
    ls_show_columns(sh, ls);
    return 0;
}

static int ls_folder(struct shell *sh, const char *path, bool is_long)
{
    struct ls ls = {.is_long = is_long};
    ls.names = kcalloc(LS_MAX_NAMES, sizeof(*ls.names), GFP_KERNEL);
    if (!ls.names) {
        return shell_error(sh, "%s: %s", path, strerror(ENOMEM));
    }
    char name[NAME_MAX_LENGTH];
    int error = 0;
    for (unsigned k = 0; error == 0 && ls.count < LS_MAX_NAMES; k++) {
        error = vfs_list(path, k, name, sizeof(name));
        if (error == 0) {
            error = ls_insert(&ls, name);
        }
    }
    int status = ls_show(sh, path, &ls);
    for (unsigned i = 0; i < ls.count; i++) {
        kfree(ls.names[i]);
    }
    kfree(ls.names);
    return error == 0         ? shell_error(sh, "%s: more than %d names", path, LS_MAX_NAMES)
           : error == -ENOENT ? status
                              : shell_result(sh, path, error);
}

static int ls_path(struct shell *sh, const char *path, bool is_long)
{
    struct file_info info;
    int error = vfs_stat(path, &info);
    if (error != 0) {
        return shell_result(sh, path, error);
    }
    if (info.type == FILE_DIRECTORY) {
        return ls_folder(sh, path, is_long);
    }
    if (is_long) {
        ls_show_long(sh, path, &info);
    } else {
        shell_printf(sh, "%s\n", path);
    }
    return 0;
}

static int cmd_ls(struct shell *sh, int argc, char **argv)
{
    bool is_long = false;
    int i = 1, status = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "-l") != 0) {
            return shell_usage(sh, "%s: unknown option", argv[i]);
        }
        is_long = true;
    }
    if (i == argc) {
        return ls_path(sh, "/", is_long);
    }
    for (bool several = argc - i > 1; i < argc; i++) {
        if (several) {
            shell_printf(sh, "%s:\n", argv[i]);
        }
        int one = ls_path(sh, argv[i], is_long);
        status = one != 0 ? one : status;
    }
    return status;
}

enum { CP_SIZE = 64 << 10 };

// Whole pieces, until one is short of what was read. 0 or -errno; *path is whose error it is.
static int cp_bytes(struct shell *sh, struct file *from, struct file *to, char **argv,
                    const char **path)
{
    char *data = kmalloc(CP_SIZE, GFP_KERNEL);
    long count = 0, written = 0;
    *path = argv[1];
    if (!data) {
        return -ENOMEM;
    }
    while (!shell_interrupted(sh) && (count = vfs_read(from, data, CP_SIZE)) > 0) {
        for (long done = 0; done < count; done += written) {
            written = vfs_write(to, data + done, (size_t)(count - done));
            if (written <= 0) {
                *path = argv[2];
                kfree(data);
                return written == 0 ? -ENOSPC : (int)written;
            }
        }
    }
    kfree(data);
    return count < 0 ? (int)count : 0;
}

static int cmd_cp(struct shell *sh, int argc, char **argv)
{
    struct file *from, *to;
    const char *path;
    if (argc != 3) {
        return shell_usage(sh, "from where, and to what name?");
    }
    if (strcmp(argv[1], argv[2]) == 0) { // opened for writing it would be empty
        return shell_error(sh, "%s: the same file twice", argv[1]);
    }
    int error = vfs_open(argv[1], OPEN_READ, &from);
    if (error != 0) {
        return shell_result(sh, argv[1], error);
    }
    error = vfs_open(argv[2], OPEN_WRITE | OPEN_CREATE | OPEN_TRUNCATE, &to);
    if (error != 0) {
        vfs_close(from);
        return shell_result(sh, argv[2], error);
    }
    error = cp_bytes(sh, from, to, argv, &path);
    vfs_close(to);
    vfs_close(from);
    return shell_result(sh, path, error);
}

static int cmd_rm(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    if (argc == 1) {
        return shell_usage(sh, "which file?");
    }
    for (int i = 1; i < argc; i++) {
        int error = vfs_unlink(argv[i]);
        if (error != 0) {
            status = shell_error(sh, "%s: %s", argv[i], strerror(error));
        }
    }
    return status;
}

COMMAND("cat", cmd_cat, "cat [FILE]...",
        "show files one after the other\nWithout a file, or for -, what is typed (^D ends it).");
COMMAND("cp", cmd_cp, "cp FROM TO", "copy a file");
COMMAND("ls", cmd_ls, "ls [-l] [PATH]...",
        "list a directory\n-l: with kind, permission, size (of devices: major and minor number).");
COMMAND("rm", cmd_rm, "rm FILE...", "remove files below /tmp");
