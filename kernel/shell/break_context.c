// Mistakes of context, for `break`: doing what only a thread may do, where there is none.
//
// Context: thread; break_in_interrupt() leads from there into a hard interrupt.
#include <contract/break.h>
#include <core/cpu.h>
#include <sched/sleep.h>

static void break_sleep_fn(void)
{
    msleep(1);
}

static int break_sleep_in_isr(const char *argument __unused)
{
    break_in_interrupt(break_sleep_fn);
    return 0;
}

BREAK("sleep-in-isr", NULL, "a hard interrupt handler sleeps", "BUG: scheduling while atomic", true,
      break_sleep_in_isr);
