// The mistakes that drivers make with interrupts, one at a time, on a real device: each a handler
// of its own in the place of edu_interrupt, which stays as it is.
//
//   echo fault NAME > /proc/driver/edu          from now on it is driven so
//   cat /proc/driver/edu_faults                 what each does, and what catches it
//   echo calm > /proc/driver/edu                the right handler again
//
// And what a driver's remove forgets (`echo leave KIND`): a handler, a timer of either kind, a
// tasklet, a work item or a DMA mapping, each in a piece of memory that is freed with the driver.
// What finds them is drivers/pci/pci_leak.c.
//
// Context: the handlers hard irq; the rest thread, edu->command held.
#include "edu.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <defer/hrtimer.h>
#include <user/copy.h>
#include <pci/pci.h>

enum { EDU_SLOW_MS = 60, EDU_USER_ADDRESS = 0x400000 };

struct edu_mistake {
    const char *name;
    irq_handler_t handler;
    unsigned long flags; // of request_irq, beside IRQF_SHARED
    const char *wrong;   // what the driver does
    const char *caught;  // what shows it
};

// ---- the handlers -------------------------------------------------------------------------------

// A device that asserts its line and shows no cause, as broken hardware does.
static irqreturn_t edu_dead_interrupt(int irq, void *dev_id)
{
    struct edu *edu = dev_id;

    (void)irq;
    edu->foreign++;
    return IRQ_NONE;
}

// The work is done, but the device is not told: the level comes again at once.
static irqreturn_t edu_no_ack_interrupt(int irq, void *dev_id)
{
    struct edu *edu = dev_id;
    uint32_t causes = edu_rd(edu, EDU_IRQ_STATUS);

    (void)irq;
    if (causes == 0) {
        edu->foreign++;
        return IRQ_NONE;
    }
    edu->interrupts++;
    edu_pass_on(edu, causes);
    return IRQ_HANDLED;
}

// It does not look, and says "mine": to the detector of storms no line with it is ever unhandled.
static irqreturn_t edu_greedy_interrupt(int irq, void *dev_id)
{
    (void)edu_interrupt(irq, dev_id);
    return IRQ_HANDLED;
}

// What belongs into a bottom half is done here, and everything else on this CPU waits.
static irqreturn_t edu_slow_interrupt(int irq, void *dev_id)
{
    uint64_t end_ns = clock_ns() + EDU_SLOW_MS * 1000000ull;
    irqreturn_t said = edu_interrupt(irq, dev_id);

    while (said == IRQ_HANDLED && clock_ns() < end_ns) {
        cpu_relax();
    }
    return said;
}

static irqreturn_t edu_sleeping_interrupt(int irq, void *dev_id)
{
    static DEFINE_MUTEX(edu_nobodys_mutex);
    irqreturn_t said = edu_interrupt(irq, dev_id);

    if (said == IRQ_HANDLED) {
        mutex_lock(&edu_nobodys_mutex);
        mutex_unlock(&edu_nobodys_mutex);
    }
    return said;
}

// The page may have to be fetched first, and there is no thread that could wait for it.
static irqreturn_t edu_copying_interrupt(int irq, void *dev_id)
{
    irqreturn_t said = edu_interrupt(irq, dev_id);
    uint32_t word = 0;

    if (said == IRQ_HANDLED && copy_to_user(EDU_USER_ADDRESS, &word, sizeof(word)) == 0) {
        return IRQ_NONE; // there is no program here: it cannot have worked
    }
    return said;
}

// Between look and acknowledgement the device raises a second cause. `all`: acknowledges that too,
// although nobody has seen it.
static irqreturn_t edu_window(struct edu *edu, bool all)
{
    uint32_t causes = edu_rd(edu, EDU_IRQ_STATUS);

    if (causes == 0) {
        edu->foreign++;
        return IRQ_NONE;
    }
    if (causes & EDU_CAUSE_RAISE) {
        edu_wr(edu, EDU_IRQ_RAISE, EDU_CAUSE_COPY); // the device's doing: it has finished a copy
    }
    edu_wr(edu, EDU_IRQ_ACK, all ? UINT32_MAX : causes);
    edu->interrupts++;
    edu_pass_on(edu, causes);
    return IRQ_HANDLED;
}

static irqreturn_t edu_window_interrupt(int irq, void *dev_id)
{
    (void)irq;
    return edu_window(dev_id, false);
}

static irqreturn_t edu_ack_all_interrupt(int irq, void *dev_id)
{
    (void)irq;
    return edu_window(dev_id, true);
}

// ---- data shared with a thread ------------------------------------------------------------------

static DEFINE_SPINLOCK(edu_tally_lock);
static uint64_t edu_tally; // L, or nobody's: that is the point

static void edu_tally_add(void)
{
    WRITE_ONCE(edu_tally, READ_ONCE(edu_tally) + 1);
}

static irqreturn_t edu_unlocked_interrupt(int irq, void *dev_id)
{
    irqreturn_t said = edu_interrupt(irq, dev_id);

    if (said == IRQ_HANDLED) {
        edu_tally_add();
    }
    return said;
}

static irqreturn_t edu_locked_interrupt(int irq, void *dev_id)
{
    irqreturn_t said = edu_interrupt(irq, dev_id);

    if (said == IRQ_HANDLED) {
        spin_lock(&edu_tally_lock);
        edu_tally_add();
        spin_unlock(&edu_tally_lock);
    }
    return said;
}

// Until the handler of what was raised has come and gone.
static void edu_tally_wait(struct edu *edu)
{
    for (uint64_t end_ns = clock_ns() + 1000000000; edu_rd(edu, EDU_IRQ_STATUS) != 0;) {
        if (clock_ns() > end_ns) {
            return;
        }
        cpu_relax();
    }
    synchronize_irq((unsigned)edu_irq(edu));
}

// The thread's addition, and an interrupt between its read and its write: what the handler adds
// there is overwritten. With the lock, interrupts off, the handler waits: on this CPU for the
// interrupt flag, on another for the lock.
uint64_t edu_tally_run(struct edu *edu, uint32_t count)
{
    bool locked = edu->mistake != NULL && edu->mistake->handler == edu_locked_interrupt;

    edu_tally = 0;
    for (uint32_t i = 0; i < count; i++) {
        unsigned long flags = 0;

        if (locked) {
            spin_lock_irqsave(&edu_tally_lock, flags);
        }
        uint64_t value = READ_ONCE(edu_tally);
        edu_wr(edu, EDU_IRQ_RAISE, EDU_CAUSE_RAISE);
        if (!locked) {
            edu_tally_wait(edu);
        }
        WRITE_ONCE(edu_tally, value + 1);
        if (locked) {
            spin_unlock_irqrestore(&edu_tally_lock, flags);
            edu_tally_wait(edu);
        }
    }
    return 2ull * count - READ_ONCE(edu_tally);
}

// ---- the table ----------------------------------------------------------------------------------

static const struct edu_mistake edu_mistakes[] = {
    {"dead", edu_dead_interrupt, 0, "the line is up and no cause shows: broken hardware",
     "\"nobody cared\"; irq why; health"},
    {"no-ack", edu_no_ack_interrupt, 0, "the device is not acknowledged",
     "health (interrupts a second); irq why: the cause never falls"},
    {"greedy", edu_greedy_interrupt, 0, "claims interrupts that are not its own",
     "a storm of its sharer is never shut; health names the line"},
    {"slow", edu_slow_interrupt, 0, "a long handler",
     "the log; /proc/irq/N/handlers; health (longest handler)"},
    {"sleeps", edu_sleeping_interrupt, 0, "blocks in a handler",
     "BUG: mutex_lock_common() called in hard interrupt context"},
    {"copies", edu_copying_interrupt, 0, "copy_to_user in a handler",
     "BUG: copy_to_user() called in hard interrupt context"},
    {"window", edu_window_interrupt, 0,
     "none: a second cause comes between look and acknowledgement", "it is seen with the next"},
    {"ack-all", edu_ack_all_interrupt, 0, "acknowledges more than it has seen",
     "a cause is lost: engines' counts"},
    {"edge", edu_window_interrupt, IRQF_TRIGGER_RISING, "a level wire requested as an edge",
     "the second cause never comes, then none does; irq why"},
    {"unlocked", edu_unlocked_interrupt, 0, "shares data with a thread without a lock",
     "updates are lost: echo tally N"},
    {"locked", edu_locked_interrupt, 0, "none: the same with spin_lock_irqsave",
     "no update is lost"},
};

const char *edu_fault_name(const struct edu *edu)
{
    return edu->mistake != NULL ? edu->mistake->name : "none";
}

// Its own handler only when the other is off: dev_id is the same.
static int edu_fault_install(struct edu *edu, const struct edu_mistake *mistake)
{
    unsigned irq = (unsigned)edu_irq(edu);
    irq_handler_t handler = mistake != NULL ? mistake->handler : edu_interrupt;
    unsigned long flags = IRQF_SHARED | (mistake != NULL ? mistake->flags : 0);

    free_irq(irq, edu);
    edu_wr(edu, EDU_IRQ_ACK, UINT32_MAX); // what it asked of the other is forgotten: the wire falls
    int error = request_irq(irq, handler, flags, "edu", edu);
    if (error == 0) {
        edu->mistake = mistake;
    }
    return error;
}

int edu_fault_set(struct edu *edu, const char *name)
{
    const struct edu_mistake *mistake = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(edu_mistakes); i++) {
        if (strcmp(edu_mistakes[i].name, name) == 0) {
            mistake = &edu_mistakes[i];
        }
    }
    if (mistake == NULL && strcmp(name, "none") != 0) {
        return -EINVAL;
    }
    int error = edu_fault_install(edu, mistake);
    if (error != 0) { // its trigger does not suit those who share the wire
        edu_fault_install(edu, NULL);
    }
    return error;
}

static void edu_faults_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%-9s %-60s %s\n", "fault", "what is wrong", "what shows it");
    for (unsigned i = 0; i < ARRAY_SIZE(edu_mistakes); i++) {
        text_printf(t, "%-9s %-60s %s\n", edu_mistakes[i].name, edu_mistakes[i].wrong,
                    edu_mistakes[i].caught);
    }
}

PROC_FILE("driver/edu_faults", edu_faults_show);

// ---- what is left behind ------------------------------------------------------------------------

struct edu_mess {
    struct timer_list timer;
    struct hrtimer hrtimer;
    struct tasklet_struct tasklet;
    struct work_struct work;
    uint8_t buffer[64];
};

static irqreturn_t edu_mess_interrupt(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    return IRQ_NONE;
}

static void edu_mess_timer(struct timer_list *timer)
{
    (void)timer;
}

static enum hrtimer_restart edu_mess_hrtimer(struct hrtimer *timer)
{
    hrtimer_forward_now(timer, ms_to_ktime(1));
    return HRTIMER_RESTART;
}

static void edu_mess_tasklet(struct tasklet_struct *t)
{
    (void)t;
}

static void edu_mess_work(struct work_struct *work)
{
    (void)work;
    msleep(1000);
}

int edu_mess_leave(struct edu *edu, const char *kind)
{
    if (edu->mess == NULL) {
        edu->mess = kzalloc(sizeof(*edu->mess), GFP_KERNEL);
    }
    struct edu_mess *mess = edu->mess;
    if (mess == NULL) {
        return -ENOMEM;
    }
    if (strcmp(kind, "irq") == 0) {
        return request_irq((unsigned)edu_irq(edu), edu_mess_interrupt, IRQF_SHARED, "edu-left",
                           mess);
    }
    if (strcmp(kind, "timer") == 0) {
        timer_setup(&mess->timer, edu_mess_timer, 0);
        mod_timer(&mess->timer, jiffies + 3600 * HZ);
    } else if (strcmp(kind, "hrtimer") == 0) {
        hrtimer_setup(&mess->hrtimer, edu_mess_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
        hrtimer_start(&mess->hrtimer, ms_to_ktime(1), HRTIMER_MODE_REL); // and again, and again
    } else if (strcmp(kind, "tasklet") == 0) {
        tasklet_setup(&mess->tasklet, edu_mess_tasklet, "edu-left");
        tasklet_disable(&mess->tasklet); // so that it still waits when the driver goes
        tasklet_schedule(&mess->tasklet);
    } else if (strcmp(kind, "work") == 0) {
        INIT_WORK(&mess->work, edu_mess_work);
        schedule_work(&mess->work);
    } else if (strcmp(kind, "dma") == 0) {
        dma_addr_t bus =
            dma_map_single(&edu->pci->dev, mess->buffer, sizeof(mess->buffer), DMA_TO_DEVICE);
        return dma_mapping_error(&edu->pci->dev, bus) ? -ENOMEM : 0;
    } else {
        return -EINVAL;
    }
    return 0;
}
