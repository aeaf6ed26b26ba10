// The controller (HBA): taken over from the firmware, reset, searched for disks; and its interrupt
// handler.
//
// Taking over, in the specification's order (10.1.2), steps left out with the reason:
//
//   1. BIOS/OS hand-over where CAP2 has it (10.6)
//   2. reset by GHC.HR (10.4.3), which ends whatever the firmware had under way; AHCI mode on again
//   3. which ports exist (PI), how many slots (CAP.NCS)
//   4. spin up and receive, port by port (in the scan, where there is something on the port)
//   5. clear SERR, PxIS, IS; the handler; GHC.IE
//   left out: command completion coalescing (QEMU has none); port multipliers and enclosure
//   management, which nothing here uses
//
// The scan runs in a work item, so that a disk that takes seconds to spin up does not hold up the
// boot; the usual disk answers within a millisecond, and for that the probe waits.
//
// The handler is a top half and nothing more: read IS, read and clear each port's PxIS, then IS (in
// that order, 5.5.3), ask the block layer to have the port reaped, return. A port that reports an
// error is muted until its recovery has looked at it: some of those bits cannot be cleared any
// other way (3.3.5), and would interrupt for ever.
//
// AHCI 1.3.1. Context: thread; ahci_interrupt: hard irq. Previous: kernel/irq/flow.c. Next:
// ahci_disk.c, ahci_reap.
#include "ahci.h"

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <sched/mutex.h>
#include <sched/sleep.h>

enum {
    HBA_RESET_MS = 1000,   // 10.4.3
    HBA_HANDOFF_MS = 2000, // 10.6.3: BIOS gets 25 ms, or 2 s when it says that it is busy
    HBA_LINK_MS = 1000,    // for ports that had a link before the reset
    HBA_FIRST_LINK_MS =
        10, // for ports that nobody has looked at yet: PHYs need 10 ms (10.1.2, note)
    HBA_SCAN_PATIENCE_MS = 500,
};

static DEFINE_MUTEX(ahci_list_mutex);
static LIST_HEAD(ahci_list); // L: controllers, for /proc

// ---- top half -----------------------------------------------------------------------------------

static void ahci_port_acknowledge(struct ahci_hba *hba, unsigned index)
{
    struct ahci_port *port = READ_ONCE(hba->ports[index]);
    volatile uint8_t __iomem *registers =
        (volatile uint8_t __iomem *)hba->registers + AHCI_PORT_BASE + index * AHCI_PORT_SIZE;

    if (port == NULL) { // nobody asked it to interrupt
        writel(0, registers + AHCI_PXIE);
        writel(UINT32_MAX, registers + AHCI_PXIS);
        return;
    }
    uint32_t cause = port_rd(port, AHCI_PXIS);
    if (unlikely((cause & (AHCI_PXIS_STOPS | AHCI_PXIS_LINK)) != 0)) {
        port_wr(port, AHCI_PXIE, 0);
    }
    __atomic_fetch_or(&port->cause, cause, __ATOMIC_RELAXED);
    port_wr(port, AHCI_PXIS, cause);
    blk_mq_reap(port->hctx);
}

static irqreturn_t ahci_interrupt(int irq, void *dev_id)
{
    struct ahci_hba *hba = dev_id;
    (void)irq;
    uint32_t ports = ahci_rd(hba, AHCI_IS);
    // None of ours; or a port that does not exist, as when the controller is gone and everything
    // reads as ones.
    if (ports == 0 || (ports & ~hba->implemented) != 0) {
        return IRQ_NONE;
    }
    for (uint32_t left = ports; left != 0; left &= left - 1) {
        ahci_port_acknowledge(hba, (unsigned)__builtin_ctz(left));
    }
    ahci_wr(hba, AHCI_IS, ports); // after the ports' own, or it would be set again at once
    return IRQ_HANDLED;
}

// ---- taking over --------------------------------------------------------------------------------

static bool hba_wait(const struct ahci_hba *hba, enum ahci_register reg, uint32_t mask,
                     uint32_t value, uint32_t timeout_ms)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)timeout_ms * 1000000;
    if (wait_until((ahci_rd(hba, reg) & mask) == value, 200)) {
        return true;
    }
    while (clock_ns() < deadline_ns && (ahci_rd(hba, reg) & mask) != value) {
        msleep(1);
    }
    return (ahci_rd(hba, reg) & mask) == value;
}

// 10.6.3. A firmware that does not answer is left aside: the reset that follows ends its work
// anyway.
static void hba_take_from_firmware(struct ahci_hba *hba)
{
    if ((ahci_rd(hba, AHCI_CAP2) & AHCI_CAP2_BOH) == 0) {
        return;
    }
    ahci_wr(hba, AHCI_BOHC, ahci_rd(hba, AHCI_BOHC) | AHCI_BOHC_OOS);
    if (!hba_wait(hba, AHCI_BOHC, AHCI_BOHC_BOS | AHCI_BOHC_BB, 0, HBA_HANDOFF_MS)) {
        dev_warn(hba->dev, "the firmware does not hand the controller over, taking it");
    }
}

static int hba_reset(struct ahci_hba *hba)
{
    ahci_wr(hba, AHCI_GHC, ahci_rd(hba, AHCI_GHC) | AHCI_GHC_AE);
    ahci_wr(hba, AHCI_GHC, AHCI_GHC_AE | AHCI_GHC_HR);
    if (!hba_wait(hba, AHCI_GHC, AHCI_GHC_HR, 0, HBA_RESET_MS)) {
        dev_err(hba->dev, "the controller does not come out of its reset");
        return -EIO;
    }
    ahci_wr(hba, AHCI_GHC, AHCI_GHC_AE);
    return 0;
}

static uint32_t hba_port_rd(const struct ahci_hba *hba, unsigned port, enum ahci_port_register reg)
{
    return readl((const volatile uint8_t __iomem *)hba->registers + AHCI_PORT_BASE +
                 (size_t)port * AHCI_PORT_SIZE + reg);
}

// Ports on which a PHY sees something.
static uint32_t hba_linked(const struct ahci_hba *hba)
{
    uint32_t linked = 0;
    for (uint32_t left = hba->implemented; left != 0; left &= left - 1) {
        unsigned port = (unsigned)__builtin_ctz(left);
        uint32_t det = AHCI_SSTS_DET(hba_port_rd(hba, port, AHCI_PXSSTS));
        linked |= det == AHCI_DET_PRESENT || det == AHCI_DET_LINK ? BIT(port) : 0;
    }
    return linked;
}

// What the controller says of itself, cut to what can be.
static int hba_read_shape(struct ahci_hba *hba, size_t registers_size)
{
    hba->capabilities = ahci_rd(hba, AHCI_CAP);
    hba->implemented = ahci_rd(hba, AHCI_PI);
    hba->slot_count = AHCI_CAP_NCS(hba->capabilities);
    if (hba->capabilities == UINT32_MAX && hba->implemented == UINT32_MAX) {
        dev_err(hba->dev, "the controller does not answer");
        return -EIO;
    }
    size_t fit = (registers_size - AHCI_PORT_BASE) / AHCI_PORT_SIZE;
    if (fit < AHCI_MAX_PORTS && hba->implemented >> fit != 0) {
        dev_warn(hba->dev, "ports 0x%x, of which only %zu have registers", hba->implemented, fit);
        hba->implemented &= BIT(fit) - 1;
    }
    if (hba->implemented == 0) {
        dev_err(hba->dev, "the controller has no ports");
        return -ENODEV;
    }
    return dma_set_mask(hba->dev, DMA_BIT_MASK((hba->capabilities & AHCI_CAP_S64A) != 0 ? 64 : 32));
}

// ---- the scan -----------------------------------------------------------------------------------

// Gives the PHYs the time that they need after the reset, and no more: ports that had a device are
// waited for; only when nothing is known of them do all get their ten milliseconds.
static void scan_wait_links(struct ahci_hba *hba)
{
    bool known = hba->linked != 0 && (hba->capabilities & AHCI_CAP_SSS) == 0;
    uint64_t wait_ms = known ? HBA_LINK_MS : HBA_FIRST_LINK_MS;
    uint64_t deadline_ns = clock_ns() + wait_ms * 1000000;
    uint32_t expected = known ? hba->linked : hba->implemented;

    for (uint32_t left = hba->implemented; left != 0; left &= left - 1) {
        volatile uint8_t __iomem *command =
            (volatile uint8_t __iomem *)hba->registers + AHCI_PORT_BASE +
            (size_t)__builtin_ctz(left) * AHCI_PORT_SIZE + AHCI_PXCMD;
        writel(readl(command) | AHCI_PXCMD_SUD | AHCI_PXCMD_POD, command);
    }
    while ((hba_linked(hba) & expected) != expected && clock_ns() < deadline_ns &&
           !READ_ONCE(hba->stopping)) {
        msleep(1);
    }
}

static const char *scan_describe_signature(uint32_t signature)
{
    switch (signature) {
    case 0xc33c0101: // SATA 3.0, 13.4
        return "an enclosure bridge, not driven";
    case 0x96690101:
        return "a port multiplier, not driven";
    default:
        return "a device of unknown kind, not driven";
    }
}

// From a link to a disk. 0, or -errno after a line that says why.
static int scan_port_start(struct ahci_port *port)
{
    const char *why = "the device is not ready";
    int error = ahci_port_start(port);
    if (error != 0 && !READ_ONCE(port->hba->stopping)) {
        error = ahci_port_stop(port); // once more, the hard way
        if (error == 0) {
            error = ahci_port_reset(port);
        }
        if (error == 0) {
            error = ahci_port_start(port);
        }
    }
    if (error != 0) {
        port_warn(port, "%s", why);
        return error;
    }
    uint32_t signature = port_rd(port, AHCI_PXSIG);
    if (signature != AHCI_SIG_ATA && signature != AHCI_SIG_ATAPI) {
        port_info(port, "%s", scan_describe_signature(signature));
        return -ENODEV;
    }
    error = signature == AHCI_SIG_ATAPI ? ahci_atapi_identify(port, &why)
                                        : ahci_port_identify(port, &port->identity, &why);
    if (error != 0) {
        port_warn(port, "%s not used: %s", signature == AHCI_SIG_ATAPI ? "drive" : "disk", why);
    }
    return error;
}

static void scan_port(struct ahci_hba *hba, unsigned index)
{
    struct ahci_port *port = ahci_port_create(hba, index);
    if (port == NULL) {
        dev_err(hba->dev, "port %u: no memory for its command list", index);
        return;
    }
    int error = scan_port_start(port);
    if (error == 0) {
        // May take long: it reads the partition table, or waits for a disc to spin up.
        error = port->is_atapi ? ahci_atapi_add(port) : ahci_disk_add(port);
    }
    if (error != 0) {
        mutex_lock(&ahci_list_mutex); // /proc must not look at a port that goes
        if (port->disk == NULL || ahci_disk_remove(port)) {
            ahci_port_destroy(port);
        }
        mutex_unlock(&ahci_list_mutex);
    }
}

static void ahci_scan(struct work_struct *work)
{
    struct ahci_hba *hba = container_of(work, struct ahci_hba, scan);
    scan_wait_links(hba);
    uint32_t linked = hba_linked(hba);
    for (; linked != 0 && !READ_ONCE(hba->stopping); linked &= linked - 1) {
        scan_port(hba, (unsigned)__builtin_ctz(linked));
    }
    complete_all(&hba->scanned);
}

// ---- start and stop -----------------------------------------------------------------------------

int ahci_hba_start(struct ahci_hba *hba, size_t registers_size, int irq)
{
    hba->irq = -1;
    INIT_LIST_HEAD(&hba->link);
    INIT_WORK(&hba->scan, ahci_scan);
    init_completion(&hba->scanned);
    hba_take_from_firmware(hba);
    int error = hba_read_shape(hba, registers_size);
    if (error != 0) {
        return error;
    }
    hba->linked = hba_linked(hba);
    error = hba_reset(hba);
    if (error != 0) {
        return error;
    }
    snprintf(hba->irq_name, sizeof(hba->irq_name), "ahci[%s]", hba->dev->name);
    error = request_irq((unsigned)irq, ahci_interrupt, IRQF_SHARED, hba->irq_name, hba);
    if (error != 0) {
        dev_err(hba->dev, "irq %d: %s", irq, strerror(error));
        return error;
    }
    hba->irq = irq;
    ahci_wr(hba, AHCI_IS, UINT32_MAX);
    ahci_wr(hba, AHCI_GHC, AHCI_GHC_AE | AHCI_GHC_IE);
    uint32_t version = ahci_rd(hba, AHCI_VS);
    dev_info(hba->dev, "AHCI %u.%u%u, ports 0x%x, %u slots, %u-bit addresses, irq %d",
             version >> 16, version >> 8 & 0xff, version & 0xff, hba->implemented, hba->slot_count,
             (hba->capabilities & AHCI_CAP_S64A) != 0 ? 64 : 32, irq);

    mutex_lock(&ahci_list_mutex);
    list_add_tail(&hba->link, &ahci_list);
    mutex_unlock(&ahci_list_mutex);
    schedule_work(&hba->scan);
    // Where nothing was seen yet, nothing is waited for: an empty controller must not hold up the
    // prompt.
    if (hba->linked != 0 &&
        wait_for_completion_timeout(&hba->scanned, msecs_to_jiffies(HBA_SCAN_PATIENCE_MS)) == 0) {
        dev_info(hba->dev, "disks are still starting, going on without them");
    }
    return 0;
}

bool ahci_hba_stop(struct ahci_hba *hba)
{
    bool clean = true;
    // Waits in the scan end at once; after it, waits in a recovery must not.
    WRITE_ONCE(hba->stopping, true);
    cancel_work_sync(&hba->scan);
    WRITE_ONCE(hba->stopping, false);
    mutex_lock(&ahci_list_mutex);
    list_del_init(&hba->link);
    mutex_unlock(&ahci_list_mutex);
    for (unsigned i = 0; i < AHCI_MAX_PORTS; i++) {
        struct ahci_port *port = hba->ports[i];
        if (port != NULL && ahci_disk_remove(port)) {
            ahci_port_destroy(port);
        } else if (port != NULL) {
            clean = false;
        }
    }
    ahci_wr(hba, AHCI_GHC, AHCI_GHC_AE);
    free_irq((unsigned)hba->irq, hba);
    return clean;
}

// ---- /proc/driver/ahci --------------------------------------------------------------------------

static void ahci_show_port(struct text *t, struct ahci_port *port)
{
    static const char *const states[] = {"stopped", "running", "recovering", "dead"};
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    struct ahci_counters counters = port->counters;
    uint32_t issued = port->issued, filled = port->filled;
    bool queued = port->queued;
    enum ahci_port_state state = port->state;
    spin_unlock_irqrestore(&port->lock, flags);

    text_printf(t, "  port %u: %s, %s\n", port->index, port->disk == NULL ? "-" : port->disk->name,
                states[state]);
    text_printf(t, "    PxCMD 0x%x  PxSSTS 0x%x  PxSACT 0x%x  PxCI 0x%x  PxIE ",
                port_rd(port, AHCI_PXCMD), port_rd(port, AHCI_PXSSTS), port_rd(port, AHCI_PXSACT),
                port_rd(port, AHCI_PXCI));
    text_bits(t, port_rd(port, AHCI_PXIE), ahci_pxis_names);
    text_puts(t, "  PxTFD.STS ");
    text_bits(t, port_rd(port, AHCI_PXTFD) & 0xff, ata_status_names);
    text_printf(t, "\n    depth %u, issued 0x%08x%s, filled 0x%08x\n",
                port->disk == NULL ? 0 : port->disk->queue_depth, issued,
                queued && issued != 0 ? " queued" : "", filled);
    text_printf(t,
                "    commands %llu (NCQ %llu), errors %llu, timeouts %llu, lost interrupts %llu\n",
                (unsigned long long)counters.commands, (unsigned long long)counters.queued,
                (unsigned long long)counters.errors, (unsigned long long)counters.timeouts,
                (unsigned long long)counters.lost_interrupts);
    text_printf(t, "    retries %llu, requeues %llu, resets %llu, failed %u\n",
                (unsigned long long)counters.retries, (unsigned long long)counters.requeues,
                (unsigned long long)counters.resets, READ_ONCE(port->failed));
}

// A port comes under the mutex, and goes only after its controller has left the list.
static void ahci_show(struct text *t, unsigned long index)
{
    struct ahci_hba *hba;
    (void)index;
    mutex_lock(&ahci_list_mutex);
    list_for_each_entry (hba, &ahci_list, link) {
        text_printf(t, "%s: CAP 0x%08x, ports 0x%x, %u slots, irq %d\n", hba->dev->name,
                    hba->capabilities, hba->implemented, hba->slot_count, hba->irq);
        for (unsigned i = 0; i < AHCI_MAX_PORTS; i++) {
            if (hba->ports[i] != NULL) {
                ahci_show_port(t, hba->ports[i]);
            }
        }
    }
    mutex_unlock(&ahci_list_mutex);
}

static int ahci_set_mode(const char *value)
{
    static const char *const names[AHCI_MODE_COUNT] = {"ncq", "dma48", "dma28", "pio48", "pio28"};
    for (unsigned i = 0; i < AHCI_MODE_COUNT; i++) {
        if (strcmp(value, names[i]) == 0) {
            ahci_mode = (enum ahci_mode)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int ahci_set_completion(const char *value)
{
    static const char *const names[] = {"softirq", "hardirq", "irq_poll"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            ahci_completion = (enum blk_completion)i;
            return 0;
        }
    }
    return -EINVAL;
}

PROC_FILE("driver/ahci", ahci_show);
BOOT_OPTION("ahci.completion", ahci_set_completion,
            "who finds out that a disk command is done: softirq, hardirq or irq_poll");
BOOT_OPTION("ahci.mode", ahci_set_mode,
            "which commands move data: ncq, dma48, dma28, pio48 or pio28, where the disk can");
BOOT_NUMBER("ahci.timeout", ahci_timeout_ms, 100, 600000,
            "milliseconds until a disk command counts as lost (100 to 600000)");
