// help: the commands and the boot options that the linker collected, for people.
//
// Context: thread, each in one of its own.
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/command.h>
#include "job.h"
#include "stream.h"

LINKER_SET(command, command);
LINKER_SET(boot_option, boot_option);

static int help_boot(struct shell *sh)
{
    const struct boot_option *option = NULL;
    while ((option = set_next_by_name(boot_option, option ? option->name : "")) != NULL) {
        shell_printf(sh, "%-14s %s\n", option->name, option->help);
    }
    return 0;
}

static int help_all(struct shell *sh)
{
    const struct command *command = NULL;
    while ((command = set_next_by_name(command, command ? command->name : "")) != NULL) {
        int length = (int)strcspn(command->help, "\n");
        shell_printf(sh, "%-10s %.*s\n", command->name, length, command->help);
    }
    shell_printf(
        sh,
        "\nhelp COMMAND says more, help boot lists the boot options. Keys: Tab completes, up and "
        "down recall,\n^R searches, ^C stops. a | b, > >> <, ; && || &, $? as in sh.\n");
    return 0;
}

static int cmd_help(struct shell *sh, int argc, char **argv)
{
    if (argc == 1) {
        return help_all(sh);
    }
    for (int i = 1; i < argc; i++) {
        const struct command *command = shell_find_command(argv[i]);
        if (command) {
            shell_printf(sh, "usage: %s\n%s\n", command->usage, command->help);
        } else if (strcmp(argv[i], "boot") == 0) {
            help_boot(sh);
        } else {
            return shell_error(sh, "%s: no such command (help lists them)", argv[i]);
        }
    }
    return 0;
}

COMMAND("help", cmd_help, "help [COMMAND | boot]...",
        "what commands there are, and what one of them does");
