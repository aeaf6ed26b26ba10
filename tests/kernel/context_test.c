// Each API asserts its context: one of its functions, called from where it may not be called, is
// reported exactly once, and from where it may, not at all. That the others assert it too is
// checked by tests/contexts.py. All of these calls have arguments with which there is nothing to
// do, and are of those that turn no interrupts on by themselves: within a handler that would be one
// mistake more.
#include <contract/break.h>
#include <contract/device.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <mm/map.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/devres.h>
#include <irq/ipi.h>
#include <sched/info.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <user/copy.h>
#include <user/space.h>
#include <defer/hrtimer.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <dev/block.h>
#include <dev/tty.h>
#include <pci/pci.h>
#include <fs/vfs.h>
#include <net/net.h>
#include <iommu/iommu.h>

static struct {
    struct mutex mutex;
    struct work_struct work;
    struct timer_list timer;
    struct hrtimer hrtimer;
    struct tasklet_struct tasklet;
    struct device device;
    struct pci_dev pci;
} it;

static void nothing_work(struct work_struct *work __unused)
{
}

static void nothing_timer(struct timer_list *timer __unused)
{
}

static enum hrtimer_restart nothing_hrtimer(struct hrtimer *timer __unused)
{
    return HRTIMER_NORESTART;
}

static void nothing_tasklet(struct tasklet_struct *tasklet __unused)
{
}

static void nothing_call(void *arg __unused)
{
}

// ---- the calls ----------------------------------------------------------------------------------

static void call_synchronize_irq(void)
{
    synchronize_irq(MAX_IRQS);
}

static void call_request_irq(void)
{
    request_threaded_irq(MAX_IRQS, NULL, NULL, 0, "ktest", &it);
}

static void call_devm_release_irqs(void)
{
    devm_release_irqs(&it.device);
}

static void call_on_each_cpu(void)
{
    if (!irqs_disabled()) { // with interrupts off it could wait for ever: that half is below
        on_each_cpu(nothing_call, NULL);
    }
}

static void call_mutex_trylock(void)
{
    static struct thread somebody; // has it

    it.mutex.owner = &somebody;
    if (mutex_trylock(&it.mutex)) {
        mutex_unlock(&it.mutex);
    }
}

static void call_sched_set_nice(void)
{
    sched_set_nice(current, current->nice);
}

static void call_sched_setaffinity(void)
{
    sched_setaffinity(current, &(struct cpumask){0}); // no CPU: refused
}

static void call_del_timer_sync(void)
{
    del_timer_sync(&it.timer);
}

static void call_hrtimer_cancel(void)
{
    hrtimer_cancel(&it.hrtimer);
}

static void call_tasklet_kill(void)
{
    tasklet_kill(&it.tasklet);
}

static void call_cancel_work_sync(void)
{
    cancel_work_sync(&it.work);
}

static void call_dma_set_mask(void)
{
    dma_set_mask(&it.device, DMA_BIT_MASK(32));
}

static void call_request_dma(void)
{
    request_dma(99, "ktest");
}

static void call_blk_read(void)
{
    static struct gendisk disk;

    blk_read(&disk, 0, 0, NULL);
}

static void call_vfree(void)
{
    vfree(NULL);
}

static void call_ioremap(void)
{
    ioremap(0, 0);
}

static void call_pci_map_bar(void)
{
    pci_map_bar(&it.pci, PCI_BAR_COUNT, 0, "ktest");
}

static void call_ip_route(void)
{
    ip_route(0xf0000001, &(uint32_t){0}, &(uint32_t){0}); // nobody's network
}

static void call_vfs_open(void)
{
    vfs_open("", 0, &(struct file *){NULL});
}

static void call_copy_from_user(void)
{
    int error = copy_from_user(&it.device, 0, 0);

    it.device.dma_mask += (uint64_t)(error == 0 ? 0 : 1);
}

static void call_space_init(void)
{
    space_map(&(struct space){0}, 0, 0); // below the lowest address
}

static void call_iommu_deny(void)
{
    iommu_deny(&it.device, true);
}

static void call_irq_mask(void)
{
    static struct irq_desc desc = {.masked = true};

    irq_mask(&desc);
}

// ---- the table ----------------------------------------------------------------------------------

enum { ANY_THREAD = CTX_THREAD | CTX_ATOMIC, ALL = ANY_THREAD | CTX_SOFTIRQ | CTX_HARDIRQ };

static const struct {
    const char *name;
    void (*call)(void);
    unsigned right; // contexts in which it is not reported
} calls[] = {
    {"synchronize_irq", call_synchronize_irq, CTX_THREAD},
    {"request_threaded_irq", call_request_irq, CTX_THREAD},
    {"devm_release_irqs", call_devm_release_irqs, CTX_THREAD},
    {"on_each_cpu", call_on_each_cpu, ALL},
    {"irq_mask", call_irq_mask, 0}, // nobody has the lock
    {"mutex_trylock", call_mutex_trylock, ANY_THREAD},
    {"sched_set_nice", call_sched_set_nice, CTX_THREAD},
    {"sched_setaffinity", call_sched_setaffinity, CTX_THREAD},
    {"del_timer_sync", call_del_timer_sync, ANY_THREAD},
    {"hrtimer_cancel", call_hrtimer_cancel, ANY_THREAD | CTX_SOFTIRQ},
    {"tasklet_kill", call_tasklet_kill, CTX_THREAD},
    {"cancel_work_sync", call_cancel_work_sync, CTX_THREAD},
    {"dma_set_mask", call_dma_set_mask, CTX_THREAD},
    {"request_dma", call_request_dma, CTX_THREAD},
    {"blk_read", call_blk_read, CTX_THREAD},
    {"vfree", call_vfree, CTX_THREAD},
    {"ioremap", call_ioremap, CTX_THREAD},
    {"pci_map_bar", call_pci_map_bar, CTX_THREAD},
    {"ip_route", call_ip_route, CTX_SOFTIRQ},
    {"vfs_open", call_vfs_open, CTX_THREAD},
    {"copy_from_user", call_copy_from_user, CTX_THREAD},
    {"space_map", call_space_init, CTX_THREAD},
    {"iommu_deny", call_iommu_deny, CTX_THREAD},
};

static void calls_set_up(void)
{
    mutex_init(&it.mutex, "ktest context");
    INIT_WORK(&it.work, nothing_work);
    timer_setup(&it.timer, nothing_timer, 0);
    hrtimer_setup(&it.hrtimer, nothing_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
    tasklet_setup(&it.tasklet, nothing_tasklet, "ktest");
    it.device = (struct device){.name = "ktest", .dma_mask = DMA_BIT_MASK(64)};
}

static void call_in_tasklet(struct tasklet_struct *tasklet);
static DEFINE_SPINLOCK(context_test_lock);
static void (*in_tasklet)(void);
static bool tasklet_done; // A

static void call_in_tasklet(struct tasklet_struct *tasklet __unused)
{
    in_tasklet();
    __atomic_store_n(&tasklet_done, true, __ATOMIC_RELEASE);
}

static void call_from(unsigned context, void (*call)(void))
{
    static struct tasklet_struct tasklet;

    switch (context) {
    case CTX_THREAD:
        call();
        break;
    case CTX_ATOMIC:
        spin_lock(&context_test_lock);
        call();
        spin_unlock(&context_test_lock);
        break;
    case CTX_SOFTIRQ:
        in_tasklet = call;
        tasklet_done = false;
        tasklet_setup(&tasklet, call_in_tasklet, "ktest context");
        tasklet_schedule(&tasklet);
        while (!__atomic_load_n(&tasklet_done, __ATOMIC_ACQUIRE)) {
            msleep(1);
        }
        break;
    default:
        break_in_interrupt(call);
    }
}

KTEST(context, each_api_asserts_where_it_may_be_called)
{
    if (!police_on) {
        SKIP("police=off");
    }
    calls_set_up();
    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
        for (unsigned context = CTX_THREAD; context <= CTX_HARDIRQ; context <<= 1) {
            unsigned expected = (calls[i].right & context) == 0;
            uint32_t before = warn_count;

            call_from(context, calls[i].call);
            uint32_t told = warn_count - before;
            ktest->warnings_expected += told;
            if (told != expected) {
                ktest_fail(ktest, __FILE__, __LINE__, "%s from context %u: %u reports, expected %u",
                           calls[i].name, context, told, expected);
            }
        }
        tty_log_settle(); // the reports are long, and a serial line is slow
    }
}
