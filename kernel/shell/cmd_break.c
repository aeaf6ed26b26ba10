// `break`: makes a mistake on purpose, and shows what catches it.
//
// The mistakes are records of the set break_case (include/contract/break.h), at the foot of the
// files that make them. Most leave a report in the log and a kernel that goes on; the command then
// prints nothing of its own, so that what is on the console is the report. Mistakes are made one at
// a time: two reports in each other's lines would teach nothing.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/break.h>
#include <contract/command.h>
#include <core/cpu.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <sched/mutex.h>

LINKER_SET(break_case, break_case);

static DEFINE_MUTEX(break_lock);
static void (*break_interrupt)(void); // A: what the next one runs, NULL when it has

static void break_list(struct shell *sh)
{
    const struct break_case *it;
    size_t name_width = 0, argument_width = 0;

    set_for_each (it, break_case) {
        name_width = max(name_width, strlen(it->name));
        argument_width = max(argument_width, it->argument != NULL ? strlen(it->argument) : 0);
    }
    for (it = NULL; (it = set_next_by_name(break_case, it != NULL ? it->name : "")) != NULL;) {
        shell_printf(sh, "%-*s  %-*s  %s%s\n", (int)name_width, it->name, (int)argument_width,
                     it->argument != NULL ? it->argument : "", it->help,
                     it->survives ? "" : " (a panic follows)");
    }
}

int break_number(const char *argument, uint32_t fallback, uint32_t most, uint32_t *value)
{
    *value = fallback;
    if (*argument == '\0') {
        return 0;
    }
    int error = kstrtou32(argument, 10, value);
    return error == 0 && *value > most ? -ERANGE : error;
}

// ---- in an interrupt ----------------------------------------------------------------------------

static void break_vector(void)
{
    void (*fn)(void) = break_interrupt;

    if (fn != NULL) {
        fn();
        WRITE_ONCE(break_interrupt, NULL);
    }
}

// Nothing is disabled while the interrupt is taken: what it is told to be in, it is in by itself.
void break_in_interrupt(void (*fn)(void))
{
    unsigned long flags = local_irq_save(); // the same CPU sends and receives

    irq_set_system_vector(VECTOR_ON_REQUEST, IRQ_STAT_COUNT, break_vector);
    break_interrupt = fn;
    lapic_ipi_self(VECTOR_ON_REQUEST);
    local_irq_restore(flags);
    while (READ_ONCE(break_interrupt) != NULL) {
        cpu_relax();
    }
}

// ---- the command --------------------------------------------------------------------------------

static int cmd_break(struct shell *sh, int argc, char **argv)
{
    if (argc == 1) {
        break_list(sh);
        return 0;
    }
    const struct break_case *it = set_find_by_name(break_case, argv[1]);
    if (it == NULL) {
        return shell_usage(sh, "%s: no such mistake (break alone lists them)", argv[1]);
    }
    if (argc > (it->argument != NULL ? 3 : 2)) {
        return shell_usage(sh, it->argument ? "%s: one argument at most" : "%s: takes no argument",
                           it->name);
    }
    if (mutex_lock_interruptible(&break_lock) != 0) {
        return 130;
    }
    int error = it->run(argc == 3 ? argv[2] : "");
    mutex_unlock(&break_lock);
    switch (error) {
    case 0:
        return 0;
    case -EINVAL:
    case -ERANGE:
        return shell_usage(sh, "%s: %s: not a number in range", it->name, argc == 3 ? argv[2] : "");
    default:
        return shell_error(sh, "%s: %s", it->name, strerror(-error));
    }
}

COMMAND("break", cmd_break, "break [NAME [ARGUMENT]]",
        "make a mistake on purpose, and see what catches it\n"
        "Without a name: the list. The report is in the log (dmesg), and the kernel goes on\n"
        "where the list does not say otherwise.");
