// The three ways to end: poweroff, reboot, exit. Before each, what was written reaches the disks
// and what was said reaches the screen.
//
// Context: thread, each in one of its own.
#include <lib/errno.h>
#include <lib/parse.h>
#include <contract/command.h>
#include <core/panic.h>
#include <x86/acpi.h>
#include <dev/block.h>
#include <dev/page_cache.h>
#include <dev/tty.h>
#include "stream.h"

enum { END_SYNC_MS = 30000 }; // of a disk: one that hangs must not keep the machine on for ever

static void end_prepare(struct shell *sh)
{
    for (struct gendisk *disk = blk_next(NULL); disk; disk = blk_next(disk)) {
        int error = disk->whole != NULL ? 0 : page_cache_sync(disk, END_SYNC_MS);
        if (error != 0) {
            shell_error(sh, "%s: %llu KiB are not written: %s", disk->name,
                        (unsigned long long)page_cache_dirty_bytes(disk) / 1024, strerror(error));
        }
    }
    tty_flush();
}

static int cmd_poweroff(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    end_prepare(sh);
    acpi_poweroff();
    return shell_error(sh, "the machine did not obey: switch it off by hand");
}

static int cmd_reboot(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    end_prepare(sh);
    acpi_reboot();
    return shell_error(sh, "the machine did not obey: reset it by hand");
}

enum { EXIT_MAX = 127 };

// What the host sees is a single byte, and some values of it are taken: 0 is QEMU's own good end,
// and success and panic have codes (core/panic.h).
static int cmd_exit(struct shell *sh, int argc, char **argv)
{
    uint32_t number = 0;
    if (argc > 2) {
        return shell_usage(sh, "one number at most");
    }
    if (argc == 2 && (kstrtou32(argv[1], 10, &number) != 0 || number > EXIT_MAX ||
                      number == EXIT_OK || number == EXIT_PANIC || number == EXIT_EARLY_PANIC)) {
        return shell_usage(sh, "%s: 0 to %d, but not %d, %d and %d, which have a meaning", argv[1],
                           EXIT_MAX, EXIT_OK, EXIT_PANIC, EXIT_EARLY_PANIC);
    }
    end_prepare(sh);
    debug_exit(number == 0 ? EXIT_OK : (uint8_t)number);
    acpi_poweroff(); // no such device: end all the same
    return shell_error(sh, "the machine did not obey: switch it off by hand");
}

COMMAND("poweroff", cmd_poweroff, "poweroff", "flush the disks and switch the machine off");
COMMAND("reboot", cmd_reboot, "reboot", "flush the disks and restart the machine");
COMMAND("exit", cmd_exit, "exit [N]",
        "end QEMU with a status for scripts (README.md); without isa-debug-exit, poweroff");
