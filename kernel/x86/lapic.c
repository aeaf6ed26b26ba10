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
// NMI included. Next: lapic_timer.c (its timer), lapic_show.c (its registers, for people).
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/irq_chip.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/resource.h>
#include <x86/acpi.h>
#include <x86/cpuid.h>

#include "lapic_internal.h"

enum {
    LAPIC_PAGE_SIZE = 0x1000,
    // A message takes microseconds; a CPU that accepts none, longer than any patience.
    LAPIC_ICR_TIMEOUT_US = 10 * 1000,
};

volatile uint32_t *lapic_eoi_register;
volatile uint8_t *lapic_mmio;
bool lapic_x2apic;
bool lapic_present;
static bool lapic_no_x2apic; // I: boot option

static uint32_t lapic_retries[MAX_CPUS]; // C

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
    lapic_timer_init_cpu();
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

// ---- records ----

BOOT_FLAG("nox2apic", lapic_no_x2apic, "use the local APIC through its page of registers");
