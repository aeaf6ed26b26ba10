// `locks`: who holds what right now, CPU by CPU and thread by thread.
//
// It looks without stopping anybody: a line may be gone by the time that it is read. What may be
// taken after what is in /proc/lockdep.
//
// Context: thread.
#include <contract/command.h>
#include <core/cpu.h>
#include <core/lockdep.h>
#include <sched/thread.h>

enum { LOCKS_TEXT = 8192 };

static void locks_show_thread(struct thread *thread, void *text)
{
    struct text *t = text;

    if (READ_ONCE(thread->locks.count) != 0) {
        text_printf(t, "thread %s (%d):\n", thread->name, thread->tid);
        lockdep_show_held(t, &thread->locks);
    }
}

static int cmd_locks(struct shell *sh, int argc, char **argv __unused)
{
    static char data[LOCKS_TEXT]; // under the table's lock nothing may be printed
    struct text t = TEXT_INIT(data);

    if (argc != 1) {
        return shell_usage(sh, "takes no argument");
    }
    if (!police_on) {
        return shell_error(sh, "nobody keeps the books: the kernel was started with police=off");
    }
    for_each_online_cpu (cpu) {
        const struct lock_stack *stack = lockdep_cpu_stack(cpu);

        if (READ_ONCE(stack->count) != 0) {
            text_printf(&t, "CPU %u:\n", cpu);
            lockdep_show_held(&t, stack);
        }
    }
    thread_for_each(locks_show_thread, &t);
    shell_printf(sh, "%s%s", data, text_is_cut(&t) ? "(and more)\n" : "");
    return 0;
}

COMMAND("locks", cmd_locks, "locks", "show the locks that CPUs and threads hold now");
