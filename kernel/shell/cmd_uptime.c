// uptime: how long the machine has run, and how busy it is.
//
// Context: a thread of its own.
#include <contract/command.h>
#include <core/clock.h>
#include <x86/clock.h>
#include <sched/thread.h>

#include "uptime.h"

static void uptime_print_since(struct shell *sh, uint64_t seconds)
{
    unsigned days = (unsigned)(seconds / 86400);
    unsigned hours = (unsigned)(seconds / 3600 % 24), minutes = (unsigned)(seconds / 60 % 60);

    if (days != 0) {
        shell_printf(sh, "%u day%s, ", days, days == 1 ? "" : "s");
    }
    if (hours != 0) {
        shell_printf(sh, "%2u:%02u", hours, minutes);
    } else {
        shell_printf(sh, "%u min", minutes);
    }
}

void uptime_print(struct shell *sh)
{
    uint64_t now = clock_rtc_seconds();
    unsigned load[3];

    shell_printf(sh, "%02u:%02u:%02u up ", (unsigned)(now / 3600 % 24), (unsigned)(now / 60 % 60),
                 (unsigned)(now % 60));
    uptime_print_since(sh, clock_ns() / 1000000000);
    sched_load(load);
    shell_printf(sh, ",  load average: %u.%02u, %u.%02u, %u.%02u\n", load[0] / 100, load[0] % 100,
                 load[1] / 100, load[1] % 100, load[2] / 100, load[2] % 100);
}

static int cmd_uptime(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    shell_printf(sh, " ");
    uptime_print(sh);
    return 0;
}

COMMAND("uptime", cmd_uptime, "uptime",
        "says the time, how long the machine has run, and its load");
