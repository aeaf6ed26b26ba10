// Starting the other CPUs, one after the other.
//
//   boot CPU                                   the new one
//   fills the block in the trampoline page     (waits for a start-up IPI since reset)
//   INIT ─────────────────────────────────>    reset
//   start-up(page) ───────────────────────>    real mode, page:0    boot/trampoline.S
//   polls                                      takes the offer, long mode, kernel's tables, stack
//                                              ap_main              kernel/main.c
//          <─────────────────────────────────  smp_ap_is_up
//
// Intel's recipe (SDM vol. 3, 9.4.4.1) waits 10 ms after INIT and 200 us after each of two
// start-ups. The 10 ms were for the external APICs of the 486, and no CPU that runs 64-bit code
// needs them: they are left out, and with them most of the time that starting 8 CPUs would take.
// The second start-up goes out only when the first one brought nobody.
//
// A CPU that does not come is one line in the log. It could come late, though, onto a stack that
// was since given to another: so the offer in the block is taken or withdrawn by one atomic
// exchange, its arrival likewise, and it is put back into INIT, where it stays.
//
// Context: boot CPU, thread, one CPU at a time. smp_ap_is_up: the new CPU, interrupts off.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <x86/lapic.h>
#include <x86/pte.h>
#include <x86/smp.h>

enum {
    SMP_INIT_US = 10, // what the bus may take for INIT
    // A CPU that got the start-up is there in tens of microseconds; an emulated one, milliseconds.
    SMP_FIRST_TRY_US = 10 * 1000,
    SMP_NOBODY = -1,
};

static uint8_t smp_page;              // I: number of the trampoline's page
static uint8_t *smp_block;            // I: the block in it
static int smp_expected = SMP_NOBODY; // A: the CPU that is being started, until it is up
static unsigned smp_limit = MAX_CPUS; // I: boot options

static void smp_block_set(unsigned offset, uint64_t value)
{
    memcpy(smp_block + offset, &value, sizeof(value));
}

void smp_prepare(phys_t trampoline_page, phys_t cr3)
{
    size_t size = (size_t)(trampoline_end - trampoline_start);
    assert(size <= PAGE_SIZE && IS_ALIGNED(trampoline_page, PAGE_SIZE) &&
           trampoline_page < 0x100000);
    uint8_t *page = (uint8_t *)(PHYS_BASE + trampoline_page);
    memcpy(page, trampoline_start, size);
    smp_page = (uint8_t)(trampoline_page >> PAGE_SHIFT);
    smp_block = page + (trampoline_block - trampoline_start);
    smp_block_set(SMP_BLOCK_CR3, cr3);
}

static uint32_t *smp_state(void)
{
    return (uint32_t *)(void *)(smp_block + SMP_BLOCK_STATE);
}

static bool smp_has_come(void)
{
    return __atomic_load_n(&smp_expected, __ATOMIC_ACQUIRE) == SMP_NOBODY;
}

static bool smp_call_up(uint32_t apic_id, uint32_t timeout_us)
{
    if (lapic_send_init(apic_id) != 0) {
        return false;
    }
    udelay(SMP_INIT_US);
    uint32_t first_us = min(timeout_us, (uint32_t)SMP_FIRST_TRY_US);
    if (lapic_send_startup(apic_id, smp_page) != 0) {
        return false;
    }
    if (wait_until(smp_has_come(), first_us)) {
        return true;
    }
    lapic_send_startup(apic_id, smp_page); // a CPU that is on its way ignores it
    return wait_until(smp_has_come(), timeout_us - first_us);
}

int smp_start_cpu(unsigned cpu, uintptr_t stack_top, uint32_t timeout_us)
{
    uint32_t apic_id = cpus[cpu].apic_id;
    uint64_t begin_ns = clock_ns();
    smp_block_set(SMP_BLOCK_STACK, stack_top);
    smp_block_set(SMP_BLOCK_CPU, cpu);
    __atomic_store_n(&smp_expected, (int)cpu, __ATOMIC_RELEASE);
    __atomic_store_n(smp_state(), SMP_OFFERED, __ATOMIC_RELEASE);

    bool up = smp_call_up(apic_id, timeout_us);
    int expected = (int)cpu;
    if (!up && __atomic_compare_exchange_n(&smp_expected, &expected, SMP_NOBODY, false,
                                           __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(smp_state(), 0, __ATOMIC_RELEASE);
        lapic_send_init(apic_id);
        pr_err("smp: CPU %u (APIC id %u) does not start, it stays out", cpu, apic_id);
        return -ETIMEDOUT;
    }
    pr_debug("smp: CPU %u (APIC id %u) is up after %llu us", cpu, apic_id,
             (unsigned long long)((clock_ns() - begin_ns) / 1000));
    return 0;
}

void smp_ap_is_up(void)
{
    struct cpu *cpu = cpu_self();
    if (lapic_id() != cpu->apic_id) {
        pr_err("smp: CPU %u has APIC id %u where the tables say %u; it stays out", cpu->id,
               lapic_id(), cpu->apic_id);
        cpu_stop();
    }
    cpu->online = true;
    cpumask_set(&cpu_online_mask, cpu->id);
    int expected = (int)cpu->id;
    if (!__atomic_compare_exchange_n(&smp_expected, &expected, SMP_NOBODY, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        cpumask_clear(&cpu_online_mask, cpu->id); // too late: the boot CPU has given this one up
        cpu->online = false;
        cpu_stop();
    }
}

unsigned smp_max_cpus(void)
{
    return smp_limit;
}

// ---- records ----

static int smp_option_maxcpus(const char *value)
{
    uint32_t limit;
    int err = kstrtou32(value, 10, &limit);
    if (err == 0) {
        smp_limit = limit == 0 ? 1 : min(limit, (uint32_t)MAX_CPUS); // Linux: maxcpus=0 is nosmp
    }
    return err;
}
BOOT_OPTION("maxcpus", smp_option_maxcpus,
            "maxcpus=N: start at most N CPUs, the boot CPU among them");

static int smp_option_nosmp(const char *value)
{
    (void)value;
    smp_limit = 1;
    return 0;
}
BOOT_OPTION("nosmp", smp_option_nosmp, "run on the boot CPU alone");
