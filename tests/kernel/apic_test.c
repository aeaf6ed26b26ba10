// The local APIC against its manual, register by register and message by message. The list is that
// of kvm-unit-tests' apic.c, told in our own words; what this CPU lacks is skipped with its name.
//
// Intel SDM vol. 3, chapter 11; sections stand beside the tests. lapic_test.c has the ways through
// the kernel, this file the hardware under it.
#include "every_cpu.h"
#include "message_line.h"

#include <defer/hrtimer.h>
#include <irq/ipi.h>
#include <lib/string.h>
#include <sched/sleep.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/msr.h>

#include "../../kernel/x86/lapic_regs.h"

enum {
    APIC_DFR = 0x0e0, // 11.6.2.2: flat or cluster
    APIC_ICR_LOGICAL = 0x800,
    APIC_ICR_ALL = 0x80000,
    APIC_EVERYBODY = 0xff, // physical broadcast
};
#define APIC_DFR_FLAT    0xffffffffu
#define APIC_DFR_CLUSTER 0x0fffffffu

static uint32_t apic_test_calls;

static irqreturn_t apic_test_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    __atomic_fetch_add(&apic_test_calls, 1, __ATOMIC_SEQ_CST);
    return IRQ_HANDLED;
}

static int apic_test_open(void)
{
    apic_test_calls = 0;
    return message_line_open(apic_test_handler, &apic_test_calls);
}

// ---- identity and switches ----------------------------------------------------------------------

// 11.4.8: 0x10 to 0x15 are integrated ones.
KTEST(apic, version)
{
    unsigned long flags = local_irq_save();
    uint32_t version = lapic_register(LAPIC_VERSION);
    local_irq_restore(flags);
    EXPECT((version & 0xff) >= 0x10 && (version & 0xff) <= 0x15);
    EXPECT(LAPIC_VERSION_MAX_LVT(version) >= 3); // timer, LINT0, LINT1, error
}

static void apic_test_id(void *arg)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (ebx >> 24 != (lapic_id() & 0xff) || lapic_id() != cpu_self()->apic_id) {
        __atomic_fetch_add((uint32_t *)arg, 1, __ATOMIC_RELAXED);
    }
}

KTEST(apic, id_is_cpuids)
{
    uint32_t wrong = 0;
    on_each_cpu(apic_test_id, &wrong);
    EXPECT_EQ(wrong, 0);
}

static void apic_test_reserved_bit(void *arg)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BIT64(*(unsigned *)arg));
}

// 11.4.4: bits 0 to 7 are reserved, and a write that sets one is #GP.
KTEST(apic, base_reserved_bits)
{
    unsigned bit = 2, faults = 0;
    preempt_disable();
    uint64_t base = rdmsr(MSR_APIC_BASE);
    faults += exception_catch(apic_test_reserved_bit, &bit, NULL) == EXC_GP;
    bool same = rdmsr(MSR_APIC_BASE) == base;
    preempt_enable();
    EXPECT(same);
    if (faults == 0) {
        SKIP("this CPU takes reserved bits of the APIC's base without a fault, as QEMU's TCG does");
    }
}

KTEST(apic, base_relocation)
{
    preempt_disable();
    uint64_t base = rdmsr(MSR_APIC_BASE);
    preempt_enable();
    EXPECT(base & APIC_BASE_ENABLE);
    EXPECT_EQ(base & APIC_BASE_ADDRESS, 0xfee00000); // where messages go, and nobody moves it
    SKIP("moving the page would cut off every other user of it; QEMU's stays where it is");
}

KTEST(apic, base_disable_and_cpuid_bit)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    EXPECT(edx & BIT(9)); // mirrors the enable bit, 11.4.3
    SKIP("an APIC that was switched off by its base stays off until reset on QEMU's TCG");
}

// 11.4.7.2: while the software enable bit is clear nothing is delivered and every LVT is masked.
KTEST(apic, software_disable)
{
    int irq = apic_test_open();
    REQUIRE(irq > 0);
    uint8_t vector = message_line_vector(irq);
    unsigned long flags = local_irq_save();
    uint32_t svr = lapic_register(LAPIC_SVR), lvt[4];
    static const unsigned lvts[4] = {LAPIC_LVT_TIMER, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1,
                                     LAPIC_LVT_ERROR};
    for (unsigned i = 0; i < 4; i++) {
        lvt[i] = lapic_register(lvts[i]);
    }
    lapic_register_write(LAPIC_SVR, svr & ~LAPIC_SVR_ENABLE);
    bool masked = true;
    for (unsigned i = 0; i < 4; i++) {
        masked = masked && (lapic_register(lvts[i]) & LVT_MASKED);
    }
    lapic_ipi_self(vector);
    udelay(100);
    bool took = lapic_irr_test(vector);
    lapic_register_write(LAPIC_SVR, svr);
    for (unsigned i = 0; i < 4; i++) {
        lapic_register_write(lvts[i], lvt[i]);
    }
    hrtimer_reprogram();
    local_irq_restore(flags);
    msleep(5);
    message_line_send(irq, 0);
    EXPECT(message_line_reached(&apic_test_calls, took ? 2 : 1));
    message_line_close(irq, &apic_test_calls);
    if (!masked) {
        SKIP("delivery is right, but this CPU's APIC does not mask its LVTs meanwhile, as QEMU's");
    }
}

KTEST(apic, x2apic_registers)
{
    if (!lapic_is_x2apic()) {
        SKIP("this CPU has no x2APIC");
    }
    EXPECT_EQ(rdmsr(MSR_X2APIC_BASE + (LAPIC_ID >> 4)), lapic_id());
    EXPECT_EQ(rdmsr(MSR_X2APIC_BASE + (LAPIC_VERSION >> 4)), lapic_register(LAPIC_VERSION));
}

static void apic_test_read_x2apic(void *arg)
{
    *(uint64_t *)arg = rdmsr(MSR_X2APIC_BASE + (LAPIC_ID >> 4));
}

// 11.12.1.2: in xAPIC mode there are no such MSRs.
KTEST(apic, x2apic_range_faults_in_xapic_mode)
{
    uint64_t value;
    if (lapic_is_x2apic()) {
        SKIP("this CPU is in x2APIC mode");
    }
    if (exception_catch(apic_test_read_x2apic, &value, NULL) != EXC_GP) {
        SKIP("this CPU answers MSRs that it does not have, as QEMU's TCG does");
    }
}

// ---- messages -----------------------------------------------------------------------------------

KTEST(apic, self_ipi)
{
    int irq = apic_test_open();
    REQUIRE(irq > 0);
    unsigned long flags = local_irq_save();
    lapic_ipi_self(message_line_vector(irq));
    bool waits = wait_until(lapic_irr_test(message_line_vector(irq)), MESSAGE_LINE_WAIT_US);
    uint32_t early = apic_test_calls;
    local_irq_restore(flags);
    EXPECT(waits);
    EXPECT_EQ(early, 0);
    EXPECT(message_line_reached(&apic_test_calls, 1));
    message_line_close(irq, &apic_test_calls);
}

static void apic_test_icr(uint32_t destination, uint32_t command)
{
    unsigned long flags = local_irq_save();
    if (lapic_is_x2apic()) {
        wrmsr(MSR_X2APIC_BASE + (LAPIC_ICR_LOW >> 4), (uint64_t)destination << 32 | command);
    } else {
        wait_until((lapic_register(LAPIC_ICR_LOW) & ICR_BUSY) == 0, MESSAGE_LINE_WAIT_US);
        lapic_register_write(LAPIC_ICR_HIGH, destination << 24);
        lapic_register_write(LAPIC_ICR_LOW, command);
    }
    local_irq_restore(flags);
}

// Sends, and expects the vector once on each CPU of the mask and on no other.
static void apic_test_reaches(struct ktest_run *ktest, uint32_t destination, uint32_t kind,
                              const struct cpumask *mask)
{
    int irq = apic_test_open();
    REQUIRE(irq > 0);
    const struct irq_desc *desc = irq_to_desc((unsigned)irq);
    uint32_t count = cpumask_weight(mask);

    apic_test_icr(destination, kind | ICR_FIXED | ICR_ASSERT | message_line_vector(irq));
    bool reached = true;
    for_each_cpu (cpu, mask) {
        reached = reached && wait_until(READ_ONCE(desc->count[cpu]) == 1, MESSAGE_LINE_WAIT_US);
    }
    EXPECT(reached);
    msleep(2);
    uint32_t total = 0;
    for_each_online_cpu (cpu) {
        total += desc->count[cpu];
    }
    EXPECT_EQ(total, count);
    message_line_close(irq, &apic_test_calls);
}

KTEST(apic, physical_broadcast_by_address)
{
    apic_test_reaches(ktest, lapic_is_x2apic() ? UINT32_MAX : APIC_EVERYBODY, 0, &cpu_online_mask);
}

KTEST(apic, broadcast_by_shorthand)
{
    apic_test_reaches(ktest, 0, APIC_ICR_ALL, &cpu_online_mask);
}

// ---- logical destinations, 11.6.2.2 -------------------------------------------------------------

static uint32_t apic_test_dfr;

static void apic_test_set_logical(void *arg)
{
    unsigned cpu = cpu_id();
    bool cluster = apic_test_dfr == APIC_DFR_CLUSTER;
    uint32_t id = cluster ? (cpu / 4) << 4 | 1u << cpu % 4 : 1u << cpu;

    (void)arg;
    lapic_register_write(APIC_DFR, apic_test_dfr);
    lapic_register_write(LAPIC_LDR, id << 24);
}

static void apic_test_clear_logical(void *arg)
{
    (void)arg;
    lapic_register_write(LAPIC_LDR, 0);
    lapic_register_write(APIC_DFR, APIC_DFR_FLAT);
}

static void apic_test_logical(struct ktest_run *ktest, uint32_t dfr)
{
    struct cpumask one = {0}, many = {0};
    uint32_t bits = 0;

    apic_test_dfr = dfr;
    on_each_cpu(apic_test_set_logical, NULL);
    for_each_online_cpu (cpu) {
        if (cpu < 4) {
            cpumask_set(&many, cpu);
            bits |= 1u << cpu;
        }
    }
    unsigned last = cpumask_weight(&many) - 1;
    cpumask_set(&one, last);
    apic_test_reaches(ktest, 1u << last, APIC_ICR_LOGICAL, &one);
    apic_test_reaches(ktest, bits, APIC_ICR_LOGICAL, &many);
    on_each_cpu(apic_test_clear_logical, NULL);
}

KTEST(apic, logical_flat_to_one_and_many)
{
    if (lapic_is_x2apic() || cpumask_weight(&cpu_online_mask) > 8) {
        SKIP("flat logical identifiers are xAPIC's, for eight CPUs");
    }
    apic_test_logical(ktest, APIC_DFR_FLAT);
}

KTEST(apic, logical_cluster_to_one_and_many)
{
    if (lapic_is_x2apic()) {
        SKIP("the cluster model of the DFR is xAPIC's");
    }
    apic_test_logical(ktest, APIC_DFR_CLUSTER);
}

// ---- STI, HLT and NMI ---------------------------------------------------------------------------

// The instruction behind STI still runs undisturbed; the one behind that does not.
KTEST(apic, sti_shadow)
{
    int irq = apic_test_open();
    REQUIRE(irq > 0);
    uint32_t in_shadow, behind;
    unsigned long flags = local_irq_save();
    lapic_ipi_self(message_line_vector(irq));
    bool waits = wait_until(lapic_irr_test(message_line_vector(irq)), MESSAGE_LINE_WAIT_US);
    __asm__ volatile("sti\n\t"
                     "movl %2, %0\n\t"
                     "nop\n\t"
                     "movl %2, %1\n\t"
                     "cli"
                     : "=&r"(in_shadow), "=&r"(behind)
                     : "m"(apic_test_calls)
                     : "memory");
    local_irq_restore(flags);
    EXPECT(waits);
    EXPECT_EQ(in_shadow, 0);
    EXPECT_EQ(behind, 1);
    message_line_close(irq, &apic_test_calls);
}

static struct {
    uint32_t taken, wanted;         // A
    uint32_t more;                  // C: sent from within the handler
    bool (*before)(struct frame *); // the kernel's own
} apic_nmi;

static bool apic_test_nmi(struct frame *frame)
{
    if (apic_nmi.before != NULL && apic_nmi.before(frame)) {
        return true; // a question of the watchdog's, say, to a CPU that the host let wait
    }
    if (READ_ONCE(apic_nmi.wanted) == 0) {
        return false;
    }
    __atomic_fetch_add(&apic_nmi.taken, 1, __ATOMIC_SEQ_CST);
    for (; apic_nmi.more > 0; apic_nmi.more--) {
        lapic_nmi(cpu_self()->apic_id);
    }
    return true;
}

static void apic_nmi_begin(uint32_t more)
{
    apic_nmi.taken = 0;
    apic_nmi.more = more;
    apic_nmi.before = exception_nmi;
    WRITE_ONCE(apic_nmi.wanted, 1);
    exception_nmi = apic_test_nmi;
}

static void apic_nmi_end(void)
{
    exception_nmi = apic_nmi.before;
    WRITE_ONCE(apic_nmi.wanted, 0);
}

// While one is served a second waits, and a third is merged with it.
KTEST(apic, pending_nmi_is_one)
{
    preempt_disable();
    apic_nmi_begin(2);
    lapic_nmi(cpu_self()->apic_id);
    bool came = message_line_reached(&apic_nmi.taken, 2);
    udelay(1000);
    uint32_t taken = apic_nmi.taken;
    apic_nmi_end();
    preempt_enable();
    EXPECT(came);
    EXPECT_EQ(taken, 2);
}

KTEST(apic, multiple_nmi)
{
    enum { ROUNDS = 200 };
    preempt_disable();
    apic_nmi_begin(0);
    bool came = true;
    for (uint32_t i = 1; i <= ROUNDS && came; i++) {
        lapic_nmi(cpu_self()->apic_id);
        came = message_line_reached(&apic_nmi.taken, i);
    }
    uint32_t taken = apic_nmi.taken;
    apic_nmi_end();
    preempt_enable();
    EXPECT(came);
    EXPECT_EQ(taken, ROUNDS);
}

// Another CPU's NMI comes at any point of STI; HLT, and ends it.
static void apic_test_sleeper(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    uint32_t *turn = self->arg;

    if (self->cpu > 1) {
        return;
    }
    for (uint32_t i = 1; i <= 200; i++) {
        if (self->cpu == 0) {
            preempt_disable();
            local_irq_disable();
            __atomic_store_n(turn, i, __ATOMIC_RELEASE);
            cpu_sti_hlt();
            preempt_enable();
            EXPECT(message_line_reached(&apic_nmi.taken, i));
        } else if (wait_until(__atomic_load_n(turn, __ATOMIC_ACQUIRE) >= i, MESSAGE_LINE_WAIT_US)) {
            lapic_nmi(cpus[0].apic_id);
            EXPECT(message_line_reached(&apic_nmi.taken, i));
        }
    }
}

KTEST(apic, nmi_after_sti)
{
    uint32_t turn = 0;
    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: nobody to send the NMI");
    }
    apic_nmi_begin(0);
    EXPECT(every_cpu_run(ktest, apic_test_sleeper, &turn));
    EXPECT_EQ(apic_nmi.taken, 200);
    apic_nmi_end();
}

// ---- the timer, 11.5.4 --------------------------------------------------------------------------

struct apic_timer {
    uint32_t lvt, divide;
};

// The timer, stopped, and interrupts off; none of its own waits in the IRR, or the test will say
// so.
static struct apic_timer apic_timer_take(unsigned long *flags)
{
    for (unsigned tries = 0;; tries++) {
        *flags = local_irq_save();
        lapic_register_write(LAPIC_TIMER_INITIAL, 0);
        if (!lapic_irr_test(VECTOR_TIMER) || tries == 1000) {
            return (struct apic_timer){lapic_register(LAPIC_LVT_TIMER),
                                       lapic_register(LAPIC_TIMER_DIVIDE)};
        }
        local_irq_restore(*flags); // is served, and sets the timer again
    }
}

static void apic_timer_give(struct apic_timer kept)
{
    lapic_register_write(LAPIC_TIMER_INITIAL, 0);
    lapic_register_write(LAPIC_TIMER_DIVIDE, kept.divide);
    lapic_register_write(LAPIC_LVT_TIMER, kept.lvt);
    hrtimer_reprogram();
}

// Ends at 0 and stays there; its end shows in the IRR once.
KTEST(apic, one_shot_stays_at_zero)
{
    unsigned long flags;
    struct apic_timer kept = apic_timer_take(&flags);
    uint64_t begin_ns = clock_ns();
    lapic_register_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    lapic_register_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    lapic_register_write(LAPIC_TIMER_INITIAL, (uint32_t)(lapic_timer_hz() / 10000)); // 100 us
    bool fired = wait_until(lapic_irr_test(VECTOR_TIMER), MESSAGE_LINE_WAIT_US);
    uint64_t ns = clock_ns() - begin_ns;
    uint32_t left = lapic_register(LAPIC_TIMER_CURRENT);
    udelay(500);
    uint32_t later = lapic_register(LAPIC_TIMER_CURRENT);
    uint32_t initial = lapic_register(LAPIC_TIMER_INITIAL);
    apic_timer_give(kept);
    local_irq_restore(flags);
    EXPECT(fired);
    EXPECT(ns >= 95000); // not before its time, but for what the two clocks differ
    EXPECT_EQ(left, 0);
    EXPECT_EQ(later, 0);
    EXPECT_EQ(initial, (uint32_t)(lapic_timer_hz() / 10000));
}

// Periodic to one-shot on the way: the initial count is kept, and the end is the last.
KTEST(apic, timer_mode_change)
{
    if (lapic_timer_is_deadline()) {
        SKIP("this CPU's timer runs by TSC deadlines");
    }
    unsigned long flags;
    struct apic_timer kept = apic_timer_take(&flags);
    uint32_t period = (uint32_t)(lapic_timer_hz() / 1000); // 1 ms
    lapic_register_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    lapic_register_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED | LVT_PERIODIC);
    lapic_register_write(LAPIC_TIMER_INITIAL, period);
    udelay(2500); // the third turn
    uint32_t periodic = lapic_register(LAPIC_TIMER_CURRENT);
    lapic_register_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
    uint32_t initial = lapic_register(LAPIC_TIMER_INITIAL);
    uint32_t running = lapic_register(LAPIC_TIMER_CURRENT);
    bool ended = wait_until(lapic_register(LAPIC_TIMER_CURRENT) == 0, MESSAGE_LINE_WAIT_US);
    udelay(1500);
    uint32_t later = lapic_register(LAPIC_TIMER_CURRENT);
    apic_timer_give(kept);
    local_irq_restore(flags);
    EXPECT(periodic > 0 && periodic <= period);
    EXPECT_EQ(initial, period);
    EXPECT(running <= period);
    EXPECT(ended);
    EXPECT_EQ(later, 0);
}

KTEST(apic, tsc_deadline)
{
    if (!cpu_has(FEATURE_TSC_DEADLINE)) {
        SKIP("this CPU has no TSC deadline timer");
    }
    unsigned long flags = local_irq_save();
    lapic_timer_deadline(clock_ns() + 100000);
    bool fired = wait_until(lapic_irr_test(VECTOR_TIMER), MESSAGE_LINE_WAIT_US);
    hrtimer_reprogram();
    local_irq_restore(flags);
    EXPECT(fired);
}

// ---- errors, 11.5.3 -----------------------------------------------------------------------------

enum { APIC_ILLEGAL_VECTOR = 5 };

static void apic_test_send_illegal(void *arg)
{
    (void)arg;
    lapic_ipi_self(APIC_ILLEGAL_VECTOR);
    udelay(10);
    local_irq_enable();
    udelay(10);
}

// Vectors 0 to 15 cannot be sent. An APIC that does it all the same delivers what looks like an
// exception, #BR here.
KTEST(apic, illegal_vector_is_an_error)
{
    enum { SEND_ILLEGAL = 1 << 5, RECEIVE_ILLEGAL = 1 << 6 };
    unsigned long flags = local_irq_save();
    uint32_t lvt = lapic_register(LAPIC_LVT_ERROR);
    lapic_register_write(LAPIC_LVT_ERROR, lvt | LVT_MASKED);
    lapic_error_read();
    int vector = exception_catch(apic_test_send_illegal, NULL, NULL);
    local_irq_disable();
    uint32_t errors = lapic_error_read();
    if (vector == EXC_BR && lapic_isr_test(APIC_ILLEGAL_VECTOR)) {
        lapic_eoi();
    }
    lapic_error_read();
    lapic_register_write(LAPIC_LVT_ERROR, lvt);
    local_irq_restore(flags);
    if (vector == EXC_BR) {
        SKIP("this CPU's APIC delivers illegal vectors without a word, as QEMU's does");
    }
    EXPECT_EQ(vector, -1);
    EXPECT(errors & (SEND_ILLEGAL | RECEIVE_ILLEGAL));
}
