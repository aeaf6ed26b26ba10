// `irqbalance`: the service that spreads interrupts over the CPUs, and its options as Linux's
// daemon has them: --oneshot, --banirq=N, -t seconds.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <defer/irqbalance.h>

static int balance_show(struct shell *sh)
{
    struct irqbalance_status *status = kmalloc(sizeof(*status), GFP_KERNEL);

    if (status == NULL) {
        return shell_error(sh, "%s", strerror(ENOMEM));
    }
    irqbalance_status(status);
    shell_printf(sh, "irqbalance is %s, every %u s; %llu rounds, %llu moves\n",
                 status->running ? "running" : "stopped", status->interval_s,
                 (unsigned long long)status->rounds, (unsigned long long)status->moves);
    for_each_online_cpu (cpu) {
        shell_printf(sh, "  CPU %u: %llu interrupts in the last round%s\n", cpu,
                     (unsigned long long)status->load[cpu],
                     cpumask_test(&cpu_isolated_mask, cpu) ? ", isolated" : "");
    }
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        if (irqbalance_is_banned(irq)) {
            shell_printf(sh, "  irq %u is banned\n", irq);
        }
    }
    kfree(status);
    return 0;
}

static int cmd_irqbalance(struct shell *sh, int argc, char **argv)
{
    uint32_t interval_s = IRQBALANCE_INTERVAL_S, irq;
    const char *verb = NULL;

    for (int i = 1; i < argc; i++) {
        if (str_starts(argv[i], "--banirq=") || str_starts(argv[i], "--unbanirq=")) {
            bool ban = argv[i][2] == 'b';
            const char *number = strchr(argv[i], '=') + 1;

            if (kstrtou32(number, 10, &irq) != 0 || irqbalance_ban(irq, ban) != 0) {
                return shell_error(sh, "%s: no such irq (irq list shows them)", number);
            }
        } else if (strcmp(argv[i], "-t") == 0 && i + 1 < argc) {
            if (kstrtou32(argv[++i], 10, &interval_s) != 0) {
                return shell_usage(sh, "%s: not a number of seconds", argv[i]);
            }
        } else if (verb == NULL) {
            verb = argv[i];
        } else {
            return shell_usage(sh, "one thing at a time: %s", argv[i]);
        }
    }
    if (verb == NULL || strcmp(verb, "status") == 0) {
        return balance_show(sh);
    }
    if (strcmp(verb, "oneshot") == 0 || strcmp(verb, "--oneshot") == 0) {
        shell_printf(sh, "%u moved\n", irqbalance_once());
        return 0;
    }
    if (strcmp(verb, "stop") == 0) {
        irqbalance_stop();
        return 0;
    }
    if (strcmp(verb, "start") != 0) {
        return shell_usage(sh, "unknown: %s", verb);
    }
    int error = irqbalance_start(interval_s);
    return error == -EBUSY    ? shell_error(sh, "it runs already")
           : error == -ERANGE ? shell_error(sh, "%u: an interval is 1 to 3600 s", interval_s)
           : error != 0       ? shell_error(sh, "%s", strerror(error))
                              : 0;
}

COMMAND("irqbalance", cmd_irqbalance,
        "irqbalance [status|start|stop|oneshot] [-t SECONDS] [--banirq=N] [--unbanirq=N]",
        "spread interrupts over the CPUs by how often they come\n"
        "It overrides smp_affinity, but for banned irqs; isolated CPUs get none.");
