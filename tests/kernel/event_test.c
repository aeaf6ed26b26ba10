// How the CPU delivers events: which comes first, where it goes on, what happens when one strikes
// while another is being delivered. The list is that of kvm-unit-tests' eventinj.c, idt_test.c,
// debug.c and msr.c, told in our own words.
//
// Intel SDM vol. 3, 6.9 (priority), 6.15 (#DF: the table of benign and contributory events), 18.2
// (debug registers).
#include "message_line.h"

#include <core/log.h>
#include <lib/string.h>
#include <mm/demand.h>
#include <mm/page.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/msr.h>
#include <x86/segments.h>

// ---- interrupts that wait together --------------------------------------------------------------

enum { EVENT_LINES = 2 };

static struct event_line {
    int irq;
    uint8_t vector;
    uint32_t calls;     // A
    uint32_t order;     // C: when it came, from 1
    uintptr_t rip;      // C: what it interrupted
    int raise;          // C: the line to send from within the handler, -1: none
    bool other_came_in; // C: the other was served inside of this one's handler
} event_lines[EVENT_LINES];
static uint32_t event_order; // C

static irqreturn_t event_handler(int irq, void *dev_id)
{
    struct event_line *line = dev_id;
    struct event_line *other = &event_lines[line == &event_lines[0]];

    (void)irq;
    line->order = ++event_order;
    line->rip = cpu_self()->irq_frame->rip;
    if (line->raise >= 0) {
        lapic_ipi_self(event_lines[line->raise].vector);
        udelay(100);
        line->other_came_in = READ_ONCE(other->calls) != 0;
        line->raise = -1;
    }
    WRITE_ONCE(line->calls, line->calls + 1);
    return IRQ_HANDLED;
}

// Two lines, the first of the lower class.
static bool event_open(void)
{
    event_order = 0;
    memset(event_lines, 0, sizeof(event_lines));
    for (unsigned i = 0; i < EVENT_LINES; i++) {
        event_lines[i].raise = -1;
        event_lines[i].irq = message_line_open(event_handler, &event_lines[i]);
        if (event_lines[i].irq < 0) {
            return false;
        }
        event_lines[i].vector = message_line_vector(event_lines[i].irq);
    }
    if (event_lines[0].vector > event_lines[1].vector) {
        struct event_line *low = &event_lines[1], *high = &event_lines[0];
        message_line_close(low->irq, low);
        message_line_close(high->irq, high);
        return false; // the router deals class by class: this is the wrap, tried again
    }
    return true;
}

static bool event_open_ordered(void)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        if (event_open()) {
            return true;
        }
    }
    return false;
}

static void event_close(void)
{
    for (unsigned i = 0; i < EVENT_LINES; i++) {
        message_line_close(event_lines[i].irq, &event_lines[i]);
    }
}

// The higher class first; and both interrupt the same instruction, as nothing runs between them.
KTEST(event, two_pending_order_and_same_rip)
{
    bool same = false;
    // A tick that becomes due in the first one's handler comes between, and its softirqs let the
    // second in: on a slow host now and then, where nothing should run between never.
    for (unsigned tries = 0; tries < 10 && !same; tries++) {
        REQUIRE(event_open_ordered());
        unsigned long flags = local_irq_save();
        lapic_ipi_self(event_lines[0].vector);
        lapic_ipi_self(event_lines[1].vector);
        bool wait = wait_until(lapic_irr_test(event_lines[0].vector) &&
                                   lapic_irr_test(event_lines[1].vector),
                               MESSAGE_LINE_WAIT_US);
        local_irq_restore(flags);
        EXPECT(wait);
        EXPECT(message_line_reached(&event_lines[0].calls, 1));
        EXPECT(message_line_reached(&event_lines[1].calls, 1));
        EXPECT_EQ(event_lines[1].order, 1);
        EXPECT_EQ(event_lines[0].order, 2);
        same = event_lines[0].rip == event_lines[1].rip;
        event_close();
    }
    EXPECT(same);
}

// However high its class: while IF is 0 it waits, and IRET lets it in.
KTEST(event, higher_class_waits_for_iret)
{
    REQUIRE(event_open_ordered());
    unsigned long flags = local_irq_save();
    event_lines[0].raise = 1;
    lapic_ipi_self(event_lines[0].vector);
    wait_until(lapic_irr_test(event_lines[0].vector), MESSAGE_LINE_WAIT_US);
    local_irq_restore(flags);
    EXPECT(message_line_reached(&event_lines[1].calls, 1));
    EXPECT_EQ(event_lines[0].calls, 1);
    EXPECT(!event_lines[0].other_came_in);
    EXPECT_EQ(event_lines[1].order, 2);
    event_close();
}

KTEST(event, task_priority_blocks_and_releases)
{
    REQUIRE(event_open_ordered());
    preempt_disable();
    lapic_set_tpr(event_lines[0].vector | 0x0f); // the class is what counts
    lapic_ipi_self(event_lines[0].vector);
    udelay(500);
    uint32_t blocked = event_lines[0].calls;
    bool waits = lapic_irr_test(event_lines[0].vector);
    lapic_set_tpr(0);
    bool came = message_line_reached(&event_lines[0].calls, 1);
    preempt_enable();
    EXPECT_EQ(blocked, 0);
    EXPECT(waits);
    EXPECT(came);
    event_close();
}

// CR8 is the same register by another door (11.8.6).
KTEST(event, cr8_is_the_task_priority)
{
    unsigned long flags = local_irq_save();
    uint64_t cr8;
    lapic_set_tpr(0x70);
    __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
    __asm__ volatile("mov %0, %%cr8" ::"r"(5ull));
    uint8_t tpr = lapic_tpr();
    lapic_set_tpr(0);
    local_irq_restore(flags);
    EXPECT_EQ(cr8, 7);
    EXPECT_EQ(tpr, 0x50);
}

// ---- exceptions and INT n -----------------------------------------------------------------------

static void event_de(void *arg)
{
    (void)arg;
    __asm__ volatile("xorl %%ecx, %%ecx; xorl %%edx, %%edx; divl %%ecx" ::: "rax", "rcx", "rdx");
}

static void event_bp(void *arg)
{
    (void)arg;
    __asm__ volatile("int3");
}

static void event_of(void *arg) // the two-byte form; INTO, of one, is gone in 64-bit mode
{
    (void)arg;
    __asm__ volatile("int $4");
}

static void event_into(void *arg)
{
    (void)arg;
    __asm__ volatile(".byte 0xce");
}

KTEST(event, divide_breakpoint_overflow)
{
    struct exception_record record;
    EXPECT_EQ(exception_catch(event_de, NULL, &record), EXC_DE);
    EXPECT_EQ(exception_catch(event_bp, NULL, &record), EXC_BP);
    EXPECT_EQ(*(const uint8_t *)(record.frame.rip - 1), 0xcc); // behind the one byte
    EXPECT_EQ(exception_catch(event_of, NULL, &record), EXC_OF);
    EXPECT_EQ(get_le16((const void *)(record.frame.rip - 2)), 0x04cd); // behind both
    EXPECT_EQ(exception_catch(event_into, NULL, &record), EXC_UD);
    EXPECT_EQ(*(const uint8_t *)record.frame.rip, 0xce); // a fault: at it
}

static struct {
    struct thread *thread;
    unsigned vector;
    uint64_t dr6;
    uintptr_t rip;
    uint32_t count;
} event_trap;

static bool event_on_trap(const struct exception_record *record, struct frame *frame)
{
    if (cpu_current() != event_trap.thread) {
        return false;
    }
    event_trap.vector = (unsigned)frame->vector;
    event_trap.dr6 = record->dr6;
    event_trap.rip = frame->rip;
    event_trap.count++;
    return true;
}

static void event_trap_begin(void)
{
    memset(&event_trap, 0, sizeof(event_trap));
    event_trap.thread = cpu_current();
    WRITE_ONCE(exception_trap, event_on_trap); // a trap calls it: no compiler sees that
}

// A trap is over when its handler is: the code goes on behind it, registers and flags as they were.
KTEST(event, traps_go_on_behind)
{
    uint64_t kept = 0x1234, flags_before, flags_after;
    uintptr_t behind;
    event_trap_begin();
    __asm__ volatile("stc; pushfq; popq %2\n\t"
                     "leaq 1f(%%rip), %1\n\t"
                     "int3\n\t"
                     "1: pushfq; popq %3\n\t"
                     "addq $1, %0"
                     : "+r"(kept), "=&r"(behind), "=&r"(flags_before), "=&r"(flags_after)
                     :
                     : "cc", "memory");
    WRITE_ONCE(exception_trap, NULL);
    EXPECT_EQ(kept, 0x1235);
    EXPECT_EQ(event_trap.vector, EXC_BP);
    EXPECT_EQ(event_trap.rip, behind);
    EXPECT_EQ(flags_after, flags_before);
    EXPECT_EQ(event_trap.count, 1);
}

// INT n to a vector that nobody owns: it is no interrupt of the controller's, gets no EOI, and the
// code goes on.
KTEST(event, int_33)
{
    uint32_t errors = irq_err_count;
    unsigned done = 0;
    __asm__ volatile("int $33\n\t"
                     "addl $1, %0"
                     : "+r"(done)::"memory");
    EXPECT_EQ(done, 1);
    EXPECT_EQ(irq_err_count - errors, 1);
}

// ---- a fault while another is being delivered ---------------------------------------------------

struct event_pointer {
    uint16_t limit;
    uint64_t base;
} __packed;

static struct {
    struct event_pointer old; // the kernel's IDT
    uint8_t *region;          // two pages; gates 0 to `split` in the first
    unsigned split;
    uint32_t filled;
    bool (*others)(uintptr_t address, struct frame *frame);
    uint64_t error;
    uintptr_t rip;
} event_idt;

static uint8_t *event_idt_base(void)
{
    return event_idt.region + PAGE_SIZE - 16 * (event_idt.split + 1);
}

// The page with the gate comes when the CPU cannot read it: mapped, filled, and the delivery starts
// again.
static bool event_fill(uintptr_t address, struct frame *frame)
{
    if (event_idt.others == NULL || !event_idt.others(address, frame)) {
        return false;
    }
    if (address - (uintptr_t)event_idt.region < PAGE_SIZE) {
        memcpy(event_idt_base(), (const void *)event_idt.old.base, 16 * (event_idt.split + 1));
        event_idt.filled++;
        event_idt.error = frame->error;
        event_idt.rip = frame->rip;
    }
    return true;
}

// Runs fn with the gates up to `split` in a page that is not there. The vector that came of it.
static int event_with_absent_gate(unsigned split, void (*fn)(void *),
                                  struct exception_record *record)
{
    event_idt.region = demand_alloc(2 * PAGE_SIZE);
    if (event_idt.region == NULL) {
        return -1;
    }
    event_idt.split = split;
    event_idt.filled = 0;
    unsigned long flags = local_irq_save();
    __asm__ volatile("sidt %0" : "=m"(event_idt.old));
    struct event_pointer bent = {event_idt.old.limit, (uintptr_t)event_idt_base()};
    memcpy(event_idt_base() + 16 * (split + 1),
           (const uint8_t *)event_idt.old.base + 16 * (split + 1),
           event_idt.old.limit + 1u - 16 * (split + 1));
    event_idt.others = exception_fixup_page;
    exception_fixup_page = event_fill;
    __asm__ volatile("lidt %0" ::"m"(bent));
    int vector = exception_catch(fn, NULL, record);
    __asm__ volatile("lidt %0" ::"m"(event_idt.old));
    exception_fixup_page = event_idt.others;
    local_irq_restore(flags);
    demand_free(event_idt.region);
    return vector;
}

KTEST(event, page_fault_while_a_divide_error_is_delivered)
{
    struct exception_record record;
    EXPECT_EQ(event_with_absent_gate(EXC_DE, event_de, &record), EXC_DE);
    EXPECT_EQ(event_idt.filled, 1);
    EXPECT_EQ(event_idt.error & 1, 0);          // not present
    EXPECT_EQ(event_idt.rip, record.frame.rip); // both faults are the same instruction's
}

static void event_np(void *arg)
{
    (void)arg;
    exception_raise(EXC_NP, 0x10); // as the CPU would: ring 0 has no absent segment to load here
    barrier();
}

KTEST(event, segment_not_present)
{
    struct exception_record record;
    EXPECT_EQ(exception_catch(event_np, NULL, &record), EXC_NP);
    EXPECT_EQ(record.frame.error, 0x10);
}

static void event_ud(void *arg)
{
    (void)arg;
    __asm__ volatile("ud2");
}

KTEST(event, page_fault_while_an_invalid_opcode_is_delivered)
{
    struct exception_record record;
    EXPECT_EQ(event_with_absent_gate(EXC_UD, event_ud, &record), EXC_UD);
    EXPECT_EQ(event_idt.filled, 1);
    EXPECT_EQ(event_idt.rip, record.frame.rip);
}

// ---- flags of the frame -------------------------------------------------------------------------

static void event_gp(void *arg)
{
    (void)arg;
    (void)*(volatile uint8_t *)0x8000000000000000;
}

// A fault's saved flags have RF set, so that an instruction breakpoint does not strike again at the
// return; a trap's have not (18.3.1.1).
KTEST(event, resume_flag)
{
    struct exception_record gp, ud, bp;
    REQUIRE(exception_catch(event_gp, NULL, &gp) == EXC_GP);
    REQUIRE(exception_catch(event_ud, NULL, &ud) == EXC_UD);
    REQUIRE(exception_catch(event_bp, NULL, &bp) == EXC_BP);
    EXPECT_EQ(bp.frame.rflags & BIT(16), 0);
    if ((gp.frame.rflags & BIT(16)) == 0 && (ud.frame.rflags & BIT(16)) == 0) {
        SKIP("this CPU saves no RF with faults");
    }
    EXPECT(gp.frame.rflags & BIT(16));
    EXPECT(ud.frame.rflags & BIT(16));
}

// ---- debug registers ----------------------------------------------------------------------------

static void event_set_dr(uintptr_t address, uint64_t dr7)
{
    __asm__ volatile("mov %0, %%dr0" ::"r"(address) : "memory");
    __asm__ volatile("mov %0, %%dr7" ::"r"(dr7) : "memory");
}

enum { DR7_L0_G0 = 3, DR7_WRITE_4 = 0xd << 16 };

KTEST(event, data_breakpoint)
{
    static volatile uint32_t watched;
    preempt_disable();
    event_trap_begin();
    event_set_dr((uintptr_t)&watched, DR7_L0_G0 | DR7_WRITE_4);
    (void)watched; // reading is no news
    uint32_t early = event_trap.count;
    watched = 1;
    event_set_dr(0, 0);
    watched = 2;
    WRITE_ONCE(exception_trap, NULL);
    preempt_enable();
    EXPECT_EQ(early, 0);
    EXPECT_EQ(event_trap.count, 1);
    EXPECT_EQ(event_trap.vector, EXC_DB);
    EXPECT(event_trap.dr6 & BIT(0));
}

static void event_step(void *arg)
{
    (void)arg;
    __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
}

KTEST(event, single_step)
{
    struct exception_record record;
    EXPECT_EQ(exception_catch(event_step, NULL, &record), EXC_DB);
    EXPECT(record.dr6 & BIT(14));
    EXPECT_EQ(*(const uint8_t *)(record.frame.rip - 1), 0x90); // behind the NOP
}

static void event_icebp(void *arg)
{
    (void)arg;
    __asm__ volatile(".byte 0xf1");
}

KTEST(event, icebp_is_a_debug_trap)
{
    struct exception_record record;
    int vector = exception_catch(event_icebp, NULL, &record);
    if (vector == EXC_UD) {
        SKIP("this CPU does not know 0xf1, as QEMU's TCG does not");
    }
    REQUIRE(vector == EXC_DB);
    EXPECT_EQ(*(const uint8_t *)(record.frame.rip - 1), 0xf1);
}

// ---- model-specific registers -------------------------------------------------------------------

static void event_rdmsr(void *arg)
{
    (void)rdmsr(*(uint32_t *)arg);
}

static void event_wrmsr_star(void *arg)
{
    wrmsr(MSR_LSTAR, *(uint64_t *)arg);
}

KTEST(event, msr_that_does_not_exist)
{
    uint32_t msr = 0x4fffffff;
    if (exception_catch(event_rdmsr, &msr, NULL) != EXC_GP) {
        SKIP("this CPU answers MSRs that it does not have, as QEMU's TCG does");
    }
}

KTEST(event, msr_with_an_address_that_is_not_canonical)
{
    uint64_t before = rdmsr(MSR_LSTAR), bad = 0x8000000000000000;
    int vector = exception_catch(event_wrmsr_star, &bad, NULL);
    wrmsr(MSR_LSTAR, before);
    if (vector != EXC_GP) {
        SKIP("this CPU takes any address for LSTAR, as QEMU's TCG does");
    }
}

KTEST(event, msr_writable_ones)
{
    static const uint32_t msrs[] = {MSR_KERNEL_GS, MSR_LSTAR, MSR_PAT};
    unsigned long flags = local_irq_save();
    bool good = true;
    for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
        uint64_t before = rdmsr(msrs[i]);
        wrmsr(msrs[i], before);
        good = good && rdmsr(msrs[i]) == before;
    }
    local_irq_restore(flags);
    EXPECT(good);
}

KTEST(event, msr_machine_check_banks)
{
    if (!cpu_has(FEATURE_MCA)) {
        SKIP("this CPU has no machine check banks");
    }
    unsigned banks = (unsigned)(rdmsr(MSR_MCG_CAP) & 0xff);
    for (unsigned bank = 0; bank < banks; bank++) {
        uint32_t msr = MSR_MC_CTL(bank);
        EXPECT_EQ(exception_catch(event_rdmsr, &msr, NULL), -1);
        msr++;
        EXPECT_EQ(exception_catch(event_rdmsr, &msr, NULL), -1);
    }
    EXPECT(banks > 0);
}
