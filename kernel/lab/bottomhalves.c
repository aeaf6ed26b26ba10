// `lab bottomhalves`: one interrupt, served in every way that this kernel has, and what each costs.
//
//   requester          device edu            this file
//   ─────────          ──────────            ─────────
//   write RAISE ─────> cause bit, wire  ───> lab_bh_top: read cause, acknowledge, store it, ask
//        t0                                  t1                                        t2
//                                            lab_bh_bottom: take the causes, in ...    t3
//                                              the handler itself        hard irq
//                                              a softirq, a tasklet      softirq
//                                              an irq_poll function      softirq, line shut meanwhile
//                                              work, here or elsewhere   kworker
//                                              the irq's own thread      irq/N-lab
//   goes on <──────────────────────────────── completion
//        t4            polling: no interrupt at all, the requester reads the cause until it is there
//
//   t2 - t1  the top half      t3 - t1  until the bottom half runs      t4 - t0  the whole event
//
// The device is taken from its driver and given back at the end; between, this file is its driver,
// a small one in the usual order. What a top half leaves for later lies in one word: it adds causes
// (fetch_or), the bottom half takes them all (exchange); so none is lost or served twice, and
// neither side needs a lock.
//
// Context: thread, of `lab`; lab_bh_top hard irq; lab_bh_bottom as the table says. Next:
// bottomhalves_show.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/parse.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/io.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <sched/completion.h>
#include <sched/cputime.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/irq_poll.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <misc/edu_regs.h>
#include <pci/pci.h>

#include "bottomhalves.h"

enum {
    LAB_BH_EVENTS = 200, // of each way, one after the other
    LAB_BH_MOST = 100000,
    LAB_BH_PACED = 20, // and so many in steps of two ticks, to see who lets the CPU idle
    LAB_BH_PATIENCE = 5 * HZ,
    LAB_BH_CAUSE = 0x100,
    LAB_BH_BAR_SIZE = 0x100,
};

static DEFINE_MUTEX(lab_bh_mutex);
static struct lab_bh {
    struct pci_dev *pci;         // I
    volatile void __iomem *regs; // I
    unsigned irq, cpu;           // I: of this way: the line and where it arrives
    bool message;                // I: it is a message, not a wire that others may share
    enum lab_bh_way way;         // I
    uint32_t causes;             // A: seen by the top half, not yet taken
    uint32_t served;             // A
    uint64_t raised;             // t0
    uint64_t top, top_end;       // C of the line's CPU: t1, t2
    uint64_t bottom;             // t3
    struct completion done;
    struct tasklet_struct tasklet;
    struct work_struct work;
    struct irq_poll iop;
    struct timer_list pace;
    unsigned paced;         // by the timer: left
    uint32_t served_before; // and `served`, once the last one is
    struct lab_bh_result *result;
} lab_bh; // L of lab_bh_mutex, where nothing else is said

static uint32_t lab_bh_rd(enum edu_register reg)
{
    return readl((const volatile uint8_t __iomem *)lab_bh.regs + reg);
}

static void lab_bh_wr(enum edu_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)lab_bh.regs + reg);
}

// ---- bottom halves ------------------------------------------------------------------------------

// What all ways end in. Another CPU or a later call may have taken the causes already: then there
// is nothing to do.
static void lab_bh_bottom(void)
{
    uint64_t now = rdtsc();

    if (__atomic_exchange_n(&lab_bh.causes, 0, __ATOMIC_ACQ_REL) == 0) {
        return;
    }
    lab_bh.bottom = now;
    lab_bh.result->may_sleep = !in_atomic();
    strscpy(lab_bh.result->runs_in,
            in_hardirq()                   ? "hard interrupt"
            : cpu_context() == CTX_SOFTIRQ ? "softirq"
            : lab_bh.way == WAY_POLLING    ? "the requester"
                                           : current->name,
            sizeof(lab_bh.result->runs_in));
    __atomic_fetch_add(&lab_bh.served, 1, __ATOMIC_SEQ_CST);
    complete(&lab_bh.done);
}

static void lab_bh_tasklet(struct tasklet_struct *t)
{
    (void)t;
    lab_bh_bottom();
}

static void lab_bh_work(struct work_struct *work)
{
    (void)work;
    lab_bh_bottom();
}

static int lab_bh_iop(struct irq_poll *iop, int budget)
{
    (void)budget;
    lab_bh_bottom();
    irq_poll_complete(iop); // before the line is open again: the next interrupt schedules it
    if (lab_bh.message) {
        enable_irq(lab_bh.irq);
    }
    return 0;
}

static irqreturn_t lab_bh_thread(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    lab_bh_bottom();
    return IRQ_HANDLED;
}

// ---- the top half -------------------------------------------------------------------------------

// The next CPU after the line's; its own where there is no other.
static unsigned lab_bh_other_cpu(void)
{
    unsigned cpu = cpumask_next(&cpu_online_mask, lab_bh.cpu + 1);

    return cpu < MAX_CPUS ? cpu : cpumask_next(&cpu_online_mask, 0);
}

static void lab_bh_ask(void)
{
    switch (lab_bh.way) {
    case WAY_HANDLER:
        lab_bh_bottom();
        break;
    case WAY_SOFTIRQ:
        raise_softirq_irqoff(SPARE_SOFTIRQ);
        break;
    case WAY_TASKLET:
        tasklet_schedule(&lab_bh.tasklet);
        break;
    case WAY_IRQ_POLL:
        if (lab_bh.message) { // a wire may be shared: those who share it shall not be deaf
            disable_irq_nosync(lab_bh.irq);
        }
        irq_poll_sched(&lab_bh.iop);
        break;
    case WAY_WORK:
        queue_work(system_highpri_wq, &lab_bh.work);
        break;
    case WAY_WORK_ELSEWHERE:
        queue_work_on(lab_bh_other_cpu(), system_highpri_wq, &lab_bh.work);
        break;
    default: // the thread is woken by what the handler returns
        break;
    }
}

static irqreturn_t lab_bh_top(int irq, void *dev_id)
{
    uint64_t now = rdtsc();
    uint32_t cause = lab_bh_rd(EDU_IRQ_STATUS);

    (void)irq;
    (void)dev_id;
    if (cause == 0 || cause == UINT32_MAX) {
        return IRQ_NONE;
    }
    lab_bh_wr(EDU_IRQ_ACK, cause);
    lab_bh.top = now;
    __atomic_fetch_or(&lab_bh.causes, cause, __ATOMIC_RELEASE);
    lab_bh_ask();
    lab_bh.top_end = rdtsc();
    return lab_bh.way == WAY_THREAD ? IRQ_WAKE_THREAD : IRQ_HANDLED;
}

// ---- the device, and giving it back -------------------------------------------------------------

static int lab_bh_request(void)
{
    int error = pci_alloc_irq_vectors(lab_bh.pci, 1, 1, PCI_IRQ_MSI | PCI_IRQ_INTX);

    if (error < 0) {
        return error;
    }
    lab_bh.irq = (unsigned)pci_irq_vector(lab_bh.pci, 0);
    lab_bh.message = strcmp(pci_irq_type_name(lab_bh.pci), "INTx") != 0;
    error = request_threaded_irq(lab_bh.irq, lab_bh_top,
                                 lab_bh.way == WAY_THREAD ? lab_bh_thread : NULL,
                                 IRQF_SHARED | IRQF_NO_THREAD, "lab", &lab_bh);
    if (error != 0) {
        pci_free_irq_vectors(lab_bh.pci);
        return error;
    }
    lab_bh.cpu = irq_to_desc(lab_bh.irq)->data.cpu;
    return 0;
}

// The order of removal. First the device is quiet; then nobody is in the handler, nor will be; then
// what the handler asked for has run or will not. Not disable_irq, as one reads: on a shared line
// that silences the neighbour.
static void lab_bh_release(void)
{
    lab_bh_wr(EDU_IRQ_ACK, UINT32_MAX);
    if (lab_bh.way != WAY_POLLING) {
        synchronize_irq(lab_bh.irq);
        irq_poll_disable(&lab_bh.iop);
        free_irq(lab_bh.irq, &lab_bh);
        pci_free_irq_vectors(lab_bh.pci);
    }
    tasklet_kill(&lab_bh.tasklet);
    cancel_work_sync(&lab_bh.work);
    pci_set_drvdata(lab_bh.pci, NULL);
}

static int lab_bh_start(enum lab_bh_way way, struct lab_bh_result *result)
{
    struct cpumask only = {0};
    int error = 0;

    lab_bh.way = way;
    lab_bh.result = result;
    lab_bh.causes = lab_bh.served = 0;
    init_completion(&lab_bh.done);
    open_softirq(SPARE_SOFTIRQ, lab_bh_bottom);
    tasklet_setup(&lab_bh.tasklet, lab_bh_tasklet, "lab");
    INIT_WORK(&lab_bh.work, lab_bh_work);
    irq_poll_init(&lab_bh.iop, 1, lab_bh_iop);
    pci_set_drvdata(lab_bh.pci, &lab_bh);
    lab_bh_wr(EDU_IRQ_ACK, UINT32_MAX);
    if (way == WAY_POLLING) {
        pci_intx(lab_bh.pci, false);
    } else {
        error = lab_bh_request();
    }
    if (error == 0) { // the requester shares the CPU with the line
        cpumask_set(&only, lab_bh.cpu);
        error = sched_setaffinity(current, &only);
    }
    return error;
}

// ---- events -------------------------------------------------------------------------------------

// Reads the cause until it is there.
static bool lab_bh_poll(void)
{
    for (uint32_t end = jiffies + LAB_BH_PATIENCE; !time_after(jiffies, end);) {
        uint32_t cause = lab_bh_rd(EDU_IRQ_STATUS);

        if (cause != 0) {
            lab_bh.top = rdtsc();
            lab_bh_wr(EDU_IRQ_ACK, cause);
            __atomic_fetch_or(&lab_bh.causes, cause, __ATOMIC_RELEASE);
            lab_bh_bottom();
            lab_bh.top_end = rdtsc();
            return true;
        }
    }
    return false;
}

static bool lab_bh_wait(void)
{
    if (lab_bh.way == WAY_POLLING && !lab_bh_poll()) {
        return false;
    }
    return wait_for_completion_timeout(&lab_bh.done, LAB_BH_PATIENCE) != 0;
}

static bool lab_bh_event(void)
{
    struct lab_bh_result *result = lab_bh.result;

    lab_bh.raised = rdtsc();
    lab_bh_wr(EDU_IRQ_RAISE, LAB_BH_CAUSE);
    if (!lab_bh_wait()) {
        result->lost++;
        return false;
    }
    uint64_t now = rdtsc();
    samples_add(&result->top, clock_tsc_to_ns(lab_bh.top_end - lab_bh.top));
    samples_add(&result->until, clock_tsc_to_ns(lab_bh.bottom - lab_bh.top));
    samples_add(&result->whole, clock_tsc_to_ns(now - lab_bh.raised));
    return true;
}

// One at a time: two causes that nobody has taken between would be served as one.
static void lab_bh_pace(struct timer_list *timer)
{
    if (lab_bh.served_before == __atomic_load_n(&lab_bh.served, __ATOMIC_SEQ_CST)) {
        lab_bh.served_before++;
        lab_bh.paced--;
        lab_bh_wr(EDU_IRQ_RAISE, LAB_BH_CAUSE);
    }
    if (lab_bh.paced != 0) {
        mod_timer(timer, jiffies + LAB_BH_PACE_TICKS);
    }
}

// Events that come one at a time: how much of its CPU is left to others?
static void lab_bh_paced(void)
{
    uint64_t start_ns = clock_ns();
    uint64_t idle_ns = sched_cpu_time_ns(lab_bh.cpu, CPU_IDLE);

    lab_bh.paced = LAB_BH_PACED;
    lab_bh.served_before = __atomic_load_n(&lab_bh.served, __ATOMIC_SEQ_CST);
    timer_setup(&lab_bh.pace, lab_bh_pace, 0);
    mod_timer(&lab_bh.pace, jiffies + LAB_BH_PACE_TICKS);
    for (unsigned i = 0; i < LAB_BH_PACED; i++) {
        if (!lab_bh_wait()) {
            lab_bh.result->lost++;
            break;
        }
    }
    del_timer_sync(&lab_bh.pace);
    idle_ns = sched_cpu_time_ns(lab_bh.cpu, CPU_IDLE) - idle_ns;
    lab_bh.result->idle_percent = (unsigned)(idle_ns * 100 / max(clock_ns() - start_ns, 1ull));
}

static int lab_bh_measure(struct shell *sh, enum lab_bh_way way, struct lab_bh_result *result,
                          unsigned events)
{
    int error = lab_bh_start(way, result);

    if (error != 0) {
        return error;
    }
    uint64_t start_ns = clock_ns();
    for (unsigned i = 0; i < events && lab_bh_event() && !shell_interrupted(sh); i++) {
    }
    uint64_t ns = max(clock_ns() - start_ns, 1ull);
    result->events_per_s = result->whole.count * 1000000000ull / ns;
    lab_bh_paced();
    lab_bh_release();
    samples_sort(&result->top);
    samples_sort(&result->until);
    samples_sort(&result->whole);
    return shell_interrupted(sh) ? -EINTR : 0;
}

// ---- the lab ------------------------------------------------------------------------------------

static struct pci_dev *lab_bh_find(void)
{
    struct pci_dev *dev = NULL;

    while ((dev = pci_next(dev)) != NULL &&
           (dev->vendor != EDU_VENDOR || dev->device != EDU_DEVICE)) {
    }
    return dev;
}

static bool lab_bh_alloc(struct lab_bh_result *results, unsigned events)
{
    for (unsigned way = 0; way < WAY_COUNT; way++) {
        struct samples *all[] = {&results[way].top, &results[way].until, &results[way].whole};

        for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
            all[i]->values = kcalloc(events, sizeof(uint64_t), GFP_KERNEL);
            all[i]->size = events;
            if (all[i]->values == NULL) {
                return false;
            }
        }
    }
    return true;
}

static void lab_bh_free(struct lab_bh_result *results)
{
    for (unsigned way = 0; way < WAY_COUNT; way++) {
        kfree(results[way].top.values);
        kfree(results[way].until.values);
        kfree(results[way].whole.values);
    }
    kfree(results);
}

// With the device in our hands.
static int lab_bh_all_ways(struct shell *sh, struct lab_bh_result *results, unsigned events)
{
    int error = pci_enable_device(lab_bh.pci);

    if (error != 0) {
        return error;
    }
    lab_bh.regs = pci_map_bar(lab_bh.pci, 0, LAB_BH_BAR_SIZE, "lab");
    if (lab_bh.regs == NULL) {
        pci_disable_device(lab_bh.pci);
        return -ENODEV;
    }
    pci_set_master(lab_bh.pci); // messages are writes
    for (unsigned way = 0; way < WAY_COUNT && error == 0; way++) {
        if (way == WAY_WORK_ELSEWHERE && lab_bh_other_cpu() == lab_bh.cpu) {
            strscpy(results[way].runs_in, "(one CPU)", sizeof(results[way].runs_in));
            continue;
        }
        error = lab_bh_measure(sh, (enum lab_bh_way)way, &results[way], events);
        if (way == 0 && error == 0) {
            shell_printf(sh, "%s, %s irq %u on CPU %u, %u events each way\n\n",
                         lab_bh.pci->dev.name, lab_bh.message ? "message" : "wire", lab_bh.irq,
                         lab_bh.cpu, events);
        }
    }
    pci_clear_master(lab_bh.pci);
    pci_unmap_bar(lab_bh.pci, 0);
    pci_disable_device(lab_bh.pci);
    return error;
}

// Takes the device from its driver, and gives it back.
static int lab_bh_run(struct shell *sh, unsigned events)
{
    struct lab_bh_result *results = kcalloc(WAY_COUNT, sizeof(*results), GFP_KERNEL);
    struct cpumask allowed = current->allowed;
    int error = -ENOMEM;

    if (results == NULL) {
        return error;
    }
    if (lab_bh_alloc(results, events)) {
        bool bound = pci_unbind(lab_bh.pci) >= 0;

        error = lab_bh_all_ways(sh, results, events);
        sched_setaffinity(current, &allowed);
        if (bound && pci_bind(lab_bh.pci) != 0) {
            shell_error(sh, "%s: its driver does not want it back", lab_bh.pci->dev.name);
        }
    }
    if (error == 0) {
        lab_bh_show(sh, results);
        for (unsigned way = 0; way < WAY_COUNT; way++) {
            error = results[way].lost != 0 ? -EIO : error;
        }
    }
    lab_bh_free(results);
    return error;
}

static int lab_bottomhalves(struct shell *sh, int argc, char **argv)
{
    uint32_t events = LAB_BH_EVENTS;
    int error;

    if (argc > 2 || (argc == 2 && (kstrtou32(argv[1], 10, &events) != 0 || events == 0 ||
                                   events > LAB_BH_MOST))) {
        return shell_error(sh, "%s: how many events each way? 1 to %d", argv[argc - 1],
                           LAB_BH_MOST);
    }
    if (!mutex_trylock(&lab_bh_mutex)) {
        return shell_error(sh, "bottomhalves: runs already: the device serves one");
    }
    lab_bh.pci = lab_bh_find();
    error = lab_bh.pci != NULL ? lab_bh_run(sh, events) : -ENODEV;
    mutex_unlock(&lab_bh_mutex);
    if (error == -ENODEV) {
        return shell_error(sh, "bottomhalves: no edu device: `make run` has it; else "
                               "start QEMU with -device edu");
    }
    if (error == -EINTR) {
        return 130;
    }
    return error == 0 ? 0 : shell_error(sh, "bottomhalves: %s", strerror(error));
}

LAB("bottomhalves", lab_bottomhalves, "[EVENTS]",
    "one interrupt by handler, softirq, tasklet, work, thread, polling: latency and cost");
