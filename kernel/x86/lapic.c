// The local APIC: one in each CPU, and the only way in. A wire's interrupt reaches it as a message
// from an IO-APIC, a device's MSI as a write that the chipset turns into the same message, another
// CPU's IPI likewise; its own timer and error inputs are at home here.
//
//   message(vector) ──> IRR ──(priority class above PPR)──> ISR + CPU takes it ──> EOI clears the highest bit of ISR
//
// The class is the upper half of the vector: that is why kernel/irq/route.c spreads devices over
// classes and keeps 0xf for the kernel. Only an EOI opens the way for the same or a lower class
// again; a level-triggered one is broadcast to the IO-APICs.
//
// The registers are a page of memory (xAPIC) or a range of MSRs (x2APIC). The latter is faster, has
// 32-bit identifiers, and is taken where the CPU has it, or where firmware has already switched:
// from x2APIC there is no way back but reset (11.12.5).
//
// Intel SDM vol. 3, chapter 11. Context: lapic_init at boot; the rest per CPU, from any context,
// NMI included.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/irq_chip.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/io.h>
#include <core/log.h>
#include <core/resource.h>
#include <x86/acpi.h>
#include <x86/cpuid.h>
#include <x86/lapic.h>
#include <x86/msr.h>

#include "lapic_regs.h"

enum {
    LAPIC_PAGE_SIZE = 0x1000,
    LAPIC_ICR_TIMEOUT_US =
        10 *
        1000, // a message takes microseconds; a CPU that accepts none, longer than any patience
    LAPIC_CALIBRATE_MS = 10,
};

volatile uint32_t *lapic_eoi_register;
static volatile uint8_t *lapic_mmio; // I
static bool lapic_x2apic;            // I
static bool lapic_present;           // I
static bool lapic_no_x2apic;         // I: boot option
static uint64_t lapic_hz;            // I: of the timer's counter
static uint64_t lapic_per_ns;        // I: the same per nanosecond, 32.32
static bool lapic_by_tsc;            // I: deadlines by the TSC
static bool lapic_no_deadline;       // I: boot option

struct lapic_timer {
    uint32_t lvt, divide; // C: what the registers hold
};
static struct lapic_timer lapic_timers[MAX_CPUS];
static uint32_t lapic_retries[MAX_CPUS]; // C

static uint32_t lapic_rd(enum lapic_reg reg)
{
    return lapic_x2apic ? (uint32_t)rdmsr(MSR_X2APIC_BASE + (reg >> 4)) : readl(lapic_mmio + reg);
}

static void lapic_wr(enum lapic_reg reg, uint32_t value)
{
    if (lapic_x2apic) {
        wrmsr(MSR_X2APIC_BASE + (reg >> 4), value);
    } else {
        writel(value, lapic_mmio + reg);
    }
}

// One bit of the 256 in ISR, TMR or IRR.
static bool lapic_vector_bit(enum lapic_reg first, uint8_t vector)
{
    return lapic_present && (lapic_rd(first + vector / 32 * 0x10) >> (vector % 32) & 1) != 0;
}

static void cpuid_leaf_1(uint32_t *ebx, uint32_t *edx)
{
    uint32_t eax = 1, ecx = 0;
    __asm__("cpuid" : "+a"(eax), "=b"(*ebx), "+c"(ecx), "=d"(*edx));
}

// ---- coming up ----

bool lapic_init(phys_t base, void *(*map)(phys_t address, size_t size))
{
    uint32_t ebx, edx;
    cpuid_leaf_1(&ebx, &edx);
    if ((edx & BIT(9)) == 0) { // CPUID.1:EDX.APIC
        pr_err("lapic: this CPU has no local APIC, or it is switched off in the firmware's set-up");
        return false;
    }
    uint64_t msr = rdmsr(MSR_APIC_BASE);
    if ((msr & APIC_BASE_X2APIC) == 0 && cpu_has(FEATURE_X2APIC) && !lapic_no_x2apic) {
        wrmsr(MSR_APIC_BASE, msr | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
    }
    lapic_x2apic =
        (rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC) != 0; // some emulators ignore the switch
    if (!lapic_x2apic) {
        phys_t decoded = msr & APIC_BASE_ADDRESS;
        if (base != decoded) {
            pr_warn("lapic: the MADT says 0x%llx, the CPU decodes 0x%llx; the CPU is right",
                    (unsigned long long)base, (unsigned long long)decoded);
        }
        lapic_mmio = map(decoded, LAPIC_PAGE_SIZE);
        if (lapic_mmio == NULL) {
            pr_err("lapic: cannot map the registers at 0x%llx", (unsigned long long)decoded);
            return false;
        }
        lapic_eoi_register = (volatile uint32_t *)(lapic_mmio + LAPIC_EOI);
        resource_add(RESOURCE_MEMORY, decoded, decoded + LAPIC_PAGE_SIZE - 1, "Local APIC");
    }
    lapic_present = true;
    lapic_init_cpu();
    uint32_t version = lapic_rd(LAPIC_VERSION);
    pr_info("lapic: %s, version 0x%x, %u local vectors, boot CPU has id %u",
            lapic_x2apic ? "x2APIC" : "xAPIC", version & 0xff, LAPIC_VERSION_MAX_LVT(version) + 1,
            lapic_id());
    return true;
}

// The timer's class is its own (<x86/lapic.h>).
_Static_assert(VECTOR_LAST_DEVICE >> 4 < VECTOR_TIMER >> 4, "no device holds back the timer");

unsigned lapic_end_in_service(uint8_t vector, uint8_t *vectors, unsigned room)
{
    unsigned ended = 0;

    for (int word = 7; word >= 0; word--) { // the highest first, for that is what an EOI ends
        uint32_t in_service = lapic_rd(LAPIC_ISR + (unsigned)word * 0x10);

        while (in_service != 0) {
            unsigned bit = 31 - (unsigned)__builtin_clz(in_service);
            uint8_t found = (uint8_t)(word * 32 + (int)bit);

            if (!lapic_is_held_back(vector, found)) {
                return ended;
            }
            if (ended < room) {
                vectors[ended] = found;
            }
            ended++;
            in_service &= ~BIT(bit);
            lapic_eoi();
        }
    }
    return ended;
}

// The firmware's identifier for this CPU, by which the MADT's NMI entries name it.
static uint32_t lapic_acpi_uid(void)
{
    uint32_t id = lapic_id();
    for (uint32_t i = 0; i < acpi.cpu_count; i++) {
        if (acpi.cpus[i].apic_id == id) {
            return acpi.cpus[i].acpi_uid;
        }
    }
    return UINT32_MAX;
}

// Local inputs as the MADT says, NMI on each one named there. LINT0 would be the 8259s' way in;
// nobody takes it here.
static void lapic_init_lints(void)
{
    lapic_wr(LAPIC_LVT_LINT0, LVT_EXTINT | LVT_MASKED);
    lapic_wr(LAPIC_LVT_LINT1, LVT_NMI | LVT_MASKED);
    uint32_t uid = lapic_acpi_uid();
    for (uint32_t i = 0; i < acpi.nmi_count; i++) {
        const struct acpi_nmi *nmi = &acpi.nmis[i];
        if (nmi->acpi_uid == UINT32_MAX || nmi->acpi_uid == uid) {
            lapic_wr(nmi->lint == 0 ? LAPIC_LVT_LINT0 : LAPIC_LVT_LINT1,
                     LVT_NMI | (nmi->active_low ? LVT_ACTIVE_LOW : 0));
        }
    }
}

void lapic_init_cpu(void)
{
    uint64_t msr = rdmsr(MSR_APIC_BASE);
    if (lapic_x2apic) { // from off to x2APIC the way leads through xAPIC (11.12.5.1)
        if ((msr & APIC_BASE_ENABLE) == 0) {
            wrmsr(MSR_APIC_BASE, msr | APIC_BASE_ENABLE);
        }
        wrmsr(MSR_APIC_BASE, msr | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
    } else if ((msr & APIC_BASE_ENABLE) == 0) {
        wrmsr(MSR_APIC_BASE, msr | APIC_BASE_ENABLE);
    }

    // Until the software enable bit is set all LVT masks read as set and cannot be cleared
    // (11.4.7.2): it comes first.
    lapic_wr(LAPIC_SVR, LAPIC_SVR_ENABLE | VECTOR_SPURIOUS);
    lapic_wr(LAPIC_TPR, 0);
    unsigned max_lvt = LAPIC_VERSION_MAX_LVT(lapic_rd(LAPIC_VERSION));
    lapic_wr(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
    this_cpu(lapic_timers) = (struct lapic_timer){.lvt = VECTOR_TIMER | LVT_MASKED};
    if (max_lvt >= 4) {
        lapic_wr(LAPIC_LVT_PERF, VECTOR_LAST_DEVICE | LVT_MASKED);
    }
    if (max_lvt >= 5) {
        lapic_wr(LAPIC_LVT_THERMAL, VECTOR_LAST_DEVICE | LVT_MASKED);
    }
    if (max_lvt >= 6) {
        lapic_wr(LAPIC_LVT_CMCI, VECTOR_LAST_DEVICE | LVT_MASKED);
    }
    lapic_init_lints();
    lapic_wr(LAPIC_LVT_ERROR, VECTOR_LAPIC_ERROR);
    lapic_error_read();
    lapic_end_in_service(0, NULL, 0); // of firmware, or of a kernel before us
}

bool lapic_is_x2apic(void)
{
    return lapic_x2apic;
}

uint32_t lapic_id(void)
{
    if (!lapic_present) {
        uint32_t ebx, edx;
        cpuid_leaf_1(&ebx, &edx);
        return ebx >> 24;
    }
    uint32_t id = lapic_rd(LAPIC_ID);
    return lapic_x2apic ? id : id >> 24;
}

void lapic_eoi_x2apic(void)
{
    wrmsr(MSR_X2APIC_BASE + (LAPIC_EOI >> 4), 0);
}

void lapic_irq_retrigger(struct irq_data *data)
{
    lapic_ipi(data->apic_id, data->vector);
}

// ---- messages to other CPUs ----

static bool lapic_icr_idle(void)
{
    return (lapic_rd(LAPIC_ICR_LOW) & ICR_BUSY) == 0;
}

// Sends when the one before has gone out. x2APIC has no such status: the write waits by itself
// (11.12.9).
static bool lapic_icr_send(uint32_t apic_id, uint32_t command)
{
    if (lapic_x2apic) {
        // Unlike a store to the APIC's page this MSR write does not wait for earlier stores to be
        // seen (11.12.3).
        __asm__ volatile("mfence; lfence" ::: "memory");
        wrmsr(MSR_X2APIC_BASE + (LAPIC_ICR_LOW >> 4), (uint64_t)apic_id << 32 | command);
        return true;
    }
    unsigned long flags =
        local_irq_save(); // a handler's IPI between the two halves would go to our target
    bool idle = lapic_icr_idle();
    if (!idle) {
        this_cpu(lapic_retries)++;
        idle = wait_until(lapic_icr_idle(), LAPIC_ICR_TIMEOUT_US);
    }
    if (idle) {
        lapic_wr(LAPIC_ICR_HIGH, apic_id << 24);
        lapic_wr(LAPIC_ICR_LOW, command);
    }
    local_irq_restore(flags);
    if (!idle) {
        pr_ratelimited(LOG_ERR, "lapic: an IPI did not go out within %u ms, command 0x%x dropped",
                       LAPIC_ICR_TIMEOUT_US / 1000, command);
    }
    return idle;
}

void lapic_ipi(uint32_t apic_id, uint8_t vector)
{
    lapic_icr_send(apic_id, ICR_FIXED | ICR_ASSERT | vector);
}

void lapic_ipi_self(uint8_t vector)
{
    if (lapic_x2apic) {
        lapic_wr(LAPIC_SELF_IPI, vector);
    } else {
        lapic_icr_send(0, ICR_SELF | ICR_FIXED | ICR_ASSERT | vector);
    }
}

void lapic_ipi_all_but_self(uint8_t vector)
{
    lapic_icr_send(0, ICR_ALL_BUT_SELF | ICR_FIXED | ICR_ASSERT | vector);
}

void lapic_nmi(uint32_t apic_id)
{
    lapic_icr_send(apic_id, ICR_NMI | ICR_ASSERT);
}

void lapic_nmi_all_but_self(void)
{
    lapic_icr_send(0, ICR_ALL_BUT_SELF | ICR_NMI | ICR_ASSERT);
}

static int lapic_send_and_wait(uint32_t apic_id, uint32_t command)
{
    if (!lapic_icr_send(apic_id, command)) {
        return -ETIMEDOUT;
    }
    return lapic_x2apic || wait_until(lapic_icr_idle(), LAPIC_ICR_TIMEOUT_US) ? 0 : -ETIMEDOUT;
}

int lapic_send_init(uint32_t apic_id)
{
    return lapic_send_and_wait(apic_id, ICR_INIT | ICR_ASSERT);
}

int lapic_send_startup(uint32_t apic_id, uint8_t page)
{
    return lapic_send_and_wait(apic_id, ICR_STARTUP | ICR_ASSERT | page);
}

uint32_t lapic_icr_retries(unsigned cpu)
{
    return cpu < MAX_CPUS ? lapic_retries[cpu] : 0;
}

// ---- the timer ----

// Mode and divider, written only when they change: each register costs an emulator an exit. A timer
// that counts is stopped first (by the caller) or started anew (by the caller).
static void lapic_timer_mode(uint32_t lvt, uint32_t divide)
{
    struct lapic_timer *timer = &this_cpu(lapic_timers);

    if (timer->divide != divide) {
        timer->divide = divide;
        lapic_wr(LAPIC_TIMER_DIVIDE, divide);
    }
    if (timer->lvt != lvt) {
        timer->lvt = lvt;
        lapic_wr(LAPIC_LVT_TIMER, lvt);
        if ((lvt & LVT_DEADLINE) != 0) { // before the first write to its MSR (11.5.4.1)
            __asm__ volatile("mfence" ::: "memory");
        }
    }
}

void lapic_timer_count_start(void)
{
    if (lapic_present) {
        lapic_timer_mode(VECTOR_TIMER | LVT_MASKED, TIMER_DIVIDE_BY_1);
        lapic_wr(LAPIC_TIMER_INITIAL, UINT32_MAX);
    }
}

uint32_t lapic_timer_left(void)
{
    return lapic_present ? lapic_rd(LAPIC_TIMER_CURRENT) : UINT32_MAX;
}

uint32_t lapic_timer_count(void)
{
    return UINT32_MAX - lapic_timer_left();
}

void lapic_timer_set_hz(uint64_t hz)
{
    if (hz != 0) {
        lapic_hz = hz;
        lapic_per_ns = (hz << 29) / 125000000;
    }
}

// Counting has mostly been done in clock_calibrate's window; this is for a boot in which the APIC
// came up later than the clock.
void lapic_timer_calibrate(void)
{
    if (lapic_hz == 0) {
        lapic_timer_count_start();
        uint64_t begin_ns = clock_ns();
        uint32_t begin = lapic_timer_count();
        udelay(LAPIC_CALIBRATE_MS * 1000);
        uint64_t ns = clock_ns() - begin_ns;
        uint32_t ticks = lapic_timer_count() - begin;
        lapic_timer_stop();
        lapic_timer_set_hz(ns != 0 ? ticks * 1000000000ull / ns : 0);
    }
    if (lapic_hz < HZ) {
        pr_err("lapic: the timer does not count: there will be no tick");
        return;
    }
    lapic_by_tsc = cpu_has(FEATURE_TSC_DEADLINE) && !lapic_no_deadline;
    pr_info("lapic: timer counts at %llu.%03llu MHz%s", (unsigned long long)(lapic_hz / 1000000),
            (unsigned long long)(lapic_hz / 1000 % 1000),
            lapic_by_tsc ? ", deadlines by the TSC" : "");
}

uint64_t lapic_timer_hz(void)
{
    return lapic_hz;
}

// The count is written last: it starts the timer, with whatever mode stands in the LVT (11.5.4).
static void lapic_timer_start(uint32_t mode, uint64_t count)
{
    uint32_t divide = TIMER_DIVIDE_BY_1;

    if (count > UINT32_MAX) {
        divide = TIMER_DIVIDE_BY_128;
        count = min(count / 128, (uint64_t)UINT32_MAX);
    }
    lapic_timer_mode(VECTOR_TIMER | mode, divide);
    lapic_wr(LAPIC_TIMER_INITIAL, count == 0 ? 1 : (uint32_t)count);
}

void lapic_timer_periodic(uint32_t hz)
{
    if (hz != 0 && lapic_hz != 0) {
        lapic_timer_start(LVT_PERIODIC, (lapic_hz + hz / 2) / hz);
    }
}

// The count is rounded up: too late by one, rather than early and once more.
void lapic_timer_oneshot(uint64_t ns)
{
    lapic_timer_start(0, (uint64_t)((unsigned __int128)ns * lapic_per_ns >> 32) + 1);
}

void lapic_timer_deadline(uint64_t at_ns)
{
    if (lapic_by_tsc) {
        lapic_timer_mode(VECTOR_TIMER | LVT_DEADLINE, TIMER_DIVIDE_BY_1);
        wrmsr(MSR_TSC_DEADLINE, at_ns == LAPIC_TIMER_NEVER ? 0 : clock_ns_to_tsc(at_ns));
    } else if (at_ns == LAPIC_TIMER_NEVER) {
        lapic_wr(LAPIC_TIMER_INITIAL, 0); // stops it (11.5.4)
    } else {
        uint64_t now_ns = clock_ns();
        lapic_timer_oneshot(at_ns > now_ns ? at_ns - now_ns : 0);
    }
}

bool lapic_timer_is_deadline(void)
{
    return lapic_by_tsc;
}

void lapic_timer_stop(void)
{
    if (lapic_present) {
        lapic_timer_mode(VECTOR_TIMER | LVT_MASKED, TIMER_DIVIDE_BY_1);
        lapic_wr(LAPIC_TIMER_INITIAL, 0);
    }
}

// ---- state ----

// Writing loads the register with what happened since the last write (11.5.3); reading alone shows
// old news.
uint32_t lapic_error_read(void)
{
    lapic_wr(LAPIC_ESR, 0);
    uint32_t status = lapic_rd(LAPIC_ESR);
    lapic_wr(LAPIC_ESR, 0);
    return status;
}

void lapic_error_text(struct text *t, uint32_t status)
{
    text_bits(t, status, lapic_esr_bits);
}

void lapic_error_report(void)
{
    char buffer[128];
    struct text t = TEXT_INIT(buffer);
    text_bits(&t, lapic_error_read(), lapic_esr_bits);
    pr_ratelimited(LOG_ERR, "lapic: CPU %u reports an error: %s", cpu_id(), buffer);
}

bool lapic_irr_test(uint8_t vector)
{
    return lapic_vector_bit(LAPIC_IRR, vector);
}

bool lapic_isr_test(uint8_t vector)
{
    return lapic_vector_bit(LAPIC_ISR, vector);
}

bool lapic_tmr_test(uint8_t vector)
{
    return lapic_vector_bit(LAPIC_TMR, vector);
}

void lapic_set_tpr(uint8_t tpr)
{
    lapic_wr(LAPIC_TPR, tpr);
}

uint8_t lapic_tpr(void)
{
    return (uint8_t)lapic_rd(LAPIC_TPR);
}

uint8_t lapic_ppr(void)
{
    return (uint8_t)lapic_rd(LAPIC_PPR);
}

uint32_t lapic_register(unsigned offset)
{
    return lapic_rd((enum lapic_reg)offset);
}

void lapic_register_write(unsigned offset, uint32_t value)
{
    lapic_wr((enum lapic_reg)offset, value);
}

static void lapic_show_lvt(struct text *t, const char *name, enum lapic_reg reg)
{
    uint32_t lvt = lapic_rd(reg);
    static const char *const modes[8] = {"fixed", "?", "SMI", "?", "NMI", "INIT", "?", "ExtINT"};
    text_printf(t, "%-9s vector 0x%02x %-6s ", name, lvt & 0xff, modes[lvt >> 8 & 7]);
    text_bits(t, lvt & ~0x7ffu, lapic_lvt_bits);
    text_putc(t, '\n');
}

static void lapic_show_vectors(struct text *t, const char *name, enum lapic_reg first)
{
    text_printf(t, "%-9s", name);
    unsigned shown = 0;
    for (unsigned vector = 0; vector < 256; vector++) {
        if (lapic_vector_bit(first, (uint8_t)vector)) {
            text_printf(t, " 0x%02x", vector);
            shown++;
        }
    }
    text_puts(t, shown == 0 ? " -\n" : "\n");
}

void lapic_show(struct text *t)
{
    if (!lapic_present) {
        text_puts(t, "no local APIC\n");
        return;
    }
    preempt_disable(); // all of it from the same CPU
    uint32_t version = lapic_rd(LAPIC_VERSION), svr = lapic_rd(LAPIC_SVR);
    text_printf(t, "cpu %u: id %u, %s, version 0x%02x, %u local vectors, %s\n", cpu_id(),
                lapic_id(), lapic_x2apic ? "x2APIC" : "xAPIC", version & 0xff,
                LAPIC_VERSION_MAX_LVT(version) + 1, svr & LAPIC_SVR_ENABLE ? "on" : "off");
    text_printf(t, "priority  task 0x%02x, processor 0x%02x\n", lapic_rd(LAPIC_TPR),
                lapic_rd(LAPIC_PPR));
    text_printf(t, "spurious  vector 0x%02x\n", svr & 0xff);
    lapic_show_lvt(t, "timer", LAPIC_LVT_TIMER);
    lapic_show_lvt(t, "LINT0", LAPIC_LVT_LINT0);
    lapic_show_lvt(t, "LINT1", LAPIC_LVT_LINT1);
    lapic_show_lvt(t, "error", LAPIC_LVT_ERROR);
    text_printf(t, "counter   %u of %u at %llu Hz\n", lapic_rd(LAPIC_TIMER_CURRENT),
                lapic_rd(LAPIC_TIMER_INITIAL), (unsigned long long)lapic_hz);
    lapic_show_vectors(t, "waiting", LAPIC_IRR);
    lapic_show_vectors(t, "served", LAPIC_ISR);
    lapic_show_vectors(t, "level", LAPIC_TMR);
    preempt_enable();
}

// ---- records ----

static int lapic_option_no_x2apic(const char *value)
{
    (void)value;
    lapic_no_x2apic = true;
    return 0;
}
BOOT_OPTION("nox2apic", lapic_option_no_x2apic, "use the local APIC through its page of registers");

static int lapic_option(const char *value)
{
    if (value == NULL || strcmp(value, "notscdeadline") != 0) {
        return -EINVAL;
    }
    lapic_no_deadline = true;
    return 0;
}
BOOT_OPTION("lapic", lapic_option, "notscdeadline: count down to the next timer, as older CPUs do");

static void lapic_proc_show(struct text *t, unsigned long index)
{
    (void)index;
    lapic_show(t);
}
PROC_FILE("apic", lapic_proc_show);
