// Completion: the word before the cursor is looked at, candidates are found for it, and what all of
// them begin with is put in.
//
//   first word of a command        commands
//   begins with '/'                files; also behind '=', as in if=/dev/s
//   argument of help               commands
//   anything else                  network devices, disks, numbers of irqs in use
//
// Context: the shell's thread, with the line in its hands.
#include <lib/format.h>
#include <lib/string.h>
#include <contract/command.h>
#include <dev/block.h>
#include <dev/netdev.h>
#include <dev/tty.h>
#include <fs/vfs.h>
#include "complete.h"
#include "line.h"

LINKER_SET(command, command);

enum { COMPLETE_LISTED = 100 };

struct complete {
    char stem[PATH_MAX_LENGTH]; // what a candidate has to begin with
    size_t stem_length;
    char common[PATH_MAX_LENGTH]; // what all of them begin with
    unsigned count;
    bool list;      // second pass: show them
    bool directory; // the last candidate is one
};

static void complete_candidate(struct complete *c, const char *name, bool directory)
{
    if (strncmp(name, c->stem, c->stem_length) != 0) {
        return;
    }
    if (c->list) {
        if (c->count < COMPLETE_LISTED) {
            char shown[NAME_MAX_LENGTH + 4];
            int length = snprintf(shown, sizeof(shown), "%s%s  ", name, directory ? "/" : "");
            tty_write(shown, min((size_t)length, sizeof(shown) - 1));
        }
    } else if (c->count == 0) {
        strscpy(c->common, name, sizeof(c->common));
        c->directory = directory;
    } else {
        size_t same = 0;
        while (c->common[same] != '\0' && c->common[same] == name[same]) {
            same++;
        }
        c->common[same] = '\0';
    }
    c->count++;
}

static void complete_commands(struct complete *c)
{
    const struct command *command;
    set_for_each (command, command) {
        complete_candidate(c, command->name, false);
    }
}

static void complete_files(struct complete *c, const char *folder)
{
    char name[NAME_MAX_LENGTH], path[PATH_MAX_LENGTH];
    for (unsigned k = 0; vfs_list(folder, k, name, sizeof(name)) == 0; k++) {
        struct file_info info = {.type = FILE_REGULAR};
        if (strncmp(name, c->stem, c->stem_length) == 0 &&
            snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path)) {
            vfs_stat(path, &info);
        }
        complete_candidate(c, name, info.type == FILE_DIRECTORY);
    }
}

static void complete_devices(struct complete *c)
{
    rtnl_lock(); // not as an RCU reader: what is shown may have to wait for the line
    for (struct net_device *dev = netdev_next(NULL); dev; dev = netdev_next(dev)) {
        complete_candidate(c, dev->name, false);
    }
    rtnl_unlock();
    for (struct gendisk *disk = blk_next(NULL); disk; disk = blk_next(disk)) {
        complete_candidate(c, disk->name, false);
    }
    char name[NAME_MAX_LENGTH];
    for (unsigned k = 0; vfs_list("/proc/irq", k, name, sizeof(name)) == 0; k++) {
        if (name[0] >= '0' && name[0] <= '9') {
            complete_candidate(c, name, false);
        }
    }
}

// Where the word before the cursor begins, and whether it is the first of its command.
static unsigned complete_word_start(const struct line *l, bool *first, bool *of_help)
{
    unsigned at = l->cursor;
    while (at > 0 && !strchr(" \t;&|<>", l->text[at - 1])) {
        at--;
    }
    unsigned before = at;
    while (before > 0 && l->text[before - 1] == ' ') {
        before--;
    }
    *first = before == 0 || strchr(";&|", l->text[before - 1]) != NULL;
    *of_help = before >= 4 && memcmp(l->text + before - 4, "help", 4) == 0;
    return at;
}

static void complete_find(struct complete *c, const char *folder, bool commands)
{
    c->count = 0;
    if (folder) {
        complete_files(c, folder);
    } else if (commands) {
        complete_commands(c);
    } else {
        complete_devices(c);
    }
}

static void complete_list(struct complete *c, struct line *l, const char *folder, bool commands)
{
    unsigned cursor = l->cursor;
    l->cursor = l->length;
    line_hide(l);
    c->list = true;
    complete_find(c, folder, commands);
    if (c->count > COMPLETE_LISTED) {
        tty_write("...", 3);
    }
    tty_write("\n", 1);
    l->cursor = cursor;
    line_show(l);
}

void complete_line(struct line *l)
{
    struct complete c = {.count = 0};
    bool first, of_help;
    unsigned start = complete_word_start(l, &first, &of_help);
    const char *word = l->text + start;
    size_t length = l->cursor - start;
    const char *equals = memchr(word, '=', length);
    if (equals) {
        length -= (size_t)(equals + 1 - word);
        word = equals + 1;
    }
    char path[PATH_MAX_LENGTH];
    if (length >= sizeof(path)) {
        return;
    }
    memcpy(path, word, length);
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    strscpy(c.stem, slash ? slash + 1 : path, sizeof(c.stem));
    c.stem_length = strlen(c.stem);
    if (slash) {
        slash[slash == path] = '\0'; // "/" stays itself
    }
    const char *folder = slash ? path : NULL;

    complete_find(&c, folder, first || of_help);
    size_t common = strlen(c.common);
    if (c.count == 0) {
        return;
    }
    if (common > c.stem_length) {
        line_insert(l, c.common + c.stem_length, common - c.stem_length);
    } else if (c.count > 1) {
        complete_list(&c, l, folder, first || of_help);
    }
    if (c.count == 1) {
        line_insert(l, c.directory ? "/" : " ", 1);
    }
}
