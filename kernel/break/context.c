// Mistakes of context, for `break`: doing what only a thread may do, where there is none, or while
// it holds a spinlock.
//
// Context: thread; break_in_interrupt() and a tasklet lead from there into the forbidden places.
#include <lib/errno.h>
#include <contract/break.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <irq/soft_line.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <user/copy.h>
#include <defer/tasklet.h>

static void break_sleep(void)
{
    msleep(1);
}

static int break_sleep_in_isr(const char *argument __unused)
{
    break_in_interrupt(break_sleep);
    return 0;
}

static void break_sleep_tasklet(struct tasklet_struct *tasklet __unused)
{
    msleep(1);
}

static int break_sleep_in_softirq(const char *argument __unused)
{
    struct tasklet_struct tasklet;

    tasklet_setup(&tasklet, break_sleep_tasklet, "break");
    tasklet_schedule(&tasklet);
    tasklet_kill(&tasklet); // waits for it
    return 0;
}

static int break_sleep_under_spinlock(const char *argument __unused)
{
    static DEFINE_SPINLOCK(break_sleep_lock);

    spin_lock(&break_sleep_lock);
    msleep(1);
    spin_unlock(&break_sleep_lock);
    return 0;
}

static int break_gfp_kernel(const char *argument __unused)
{
    static DEFINE_SPINLOCK(break_gfp_lock);

    spin_lock(&break_gfp_lock);
    kfree(kmalloc(64, GFP_KERNEL));
    spin_unlock(&break_gfp_lock);
    return 0;
}

static void break_mutex(void)
{
    static DEFINE_MUTEX(break_isr_mutex);

    mutex_lock(&break_isr_mutex);
    mutex_unlock(&break_isr_mutex);
}

static int break_mutex_in_irq(const char *argument __unused)
{
    break_in_interrupt(break_mutex);
    return 0;
}

static void break_copy(void)
{
    char byte = 0;

    // Nobody's memory: the copy fails, but it is the attempt that is wrong here.
    if (copy_to_user(0, &byte, sizeof(byte)) == 0) {
        break_sleep();
    }
}

static int break_copy_to_user(const char *argument __unused)
{
    break_in_interrupt(break_copy);
    return 0;
}

static irqreturn_t break_handler(int irq __unused, void *dev_id __unused)
{
    return IRQ_HANDLED;
}

static int break_double_enable(const char *argument __unused)
{
    static int dev_id;
    int irq = soft_line_open(break_handler, &dev_id, "break");

    if (irq < 0) {
        return irq;
    }
    enable_irq((unsigned)irq);
    soft_line_close(irq, &dev_id);
    return 0;
}

BREAK("sleep-in-isr", NULL, "a hard interrupt handler sleeps", "BUG: scheduling while atomic", true,
      break_sleep_in_isr);
BREAK("sleep-in-softirq", NULL, "a tasklet sleeps", "BUG: scheduling while atomic", true,
      break_sleep_in_softirq);
BREAK("sleep-under-spinlock", NULL, "a thread sleeps while it holds a spinlock",
      "BUG: scheduling while atomic", true, break_sleep_under_spinlock);
BREAK("gfp-kernel-in-atomic", NULL, "a thread asks for memory by sleeping, with a spinlock held",
      "BUG: kmalloc() called in atomic thread context", true, break_gfp_kernel);
BREAK("mutex-in-irq", NULL, "a hard interrupt handler takes a mutex",
      "called in hard interrupt context", true, break_mutex_in_irq);
BREAK("copy-to-user-in-isr", NULL, "a hard interrupt handler writes to a program's memory",
      "BUG: copy_to_user() called in hard interrupt context", true, break_copy_to_user);
BREAK("double-enable-irq", NULL, "an irq is enabled that nobody disabled",
      "Unbalanced enable for IRQ", true, break_double_enable);
