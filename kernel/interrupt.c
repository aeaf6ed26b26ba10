// The spine: everything between the assembly stub and the driver, on one screen.
//
//   1 kernel/x86/entry.S      stub and save                                   <- previous
//   2 this file               exception, system call, or: enter, dispatch, leave; softirqs; another
//                             thread
//   3 kernel/irq/flow.c       vector to descriptor, flow, action list         <- next
//   4 drivers/net/e1000/      the top half
//   5 kernel/defer/softirq.c  the bottom half
//   6 drivers/net/e1000/      poll, protocol, woken reader
//
// An interrupt gate has cleared IF on the way in (Intel SDM vol. 3, 6.12.1.3), so this runs with
// interrupts off, on the stack of whatever it interrupted. Only softirq_run() turns them on in
// between, and by then the controller has had its EOI: that is why interrupts nest at most two
// deep, a hard one over a softirq.
//
// Context: called by entry.S for every vector; hard irq until irq_depth is back at 0. This file may
// see all layers.
#include <core/cpu.h>
#include <core/latency.h>
#include <core/rcu.h>
#include <x86/exception.h>
#include <x86/frame.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <irq/desc.h>
#include <sched/cputime.h>
#include <sched/thread.h>
#include <user/process.h>
#include <defer/softirq.h>
#include <defer/tick.h>

// Switching threads is possible where the interrupted code could have been preempted: no lock held,
// no softirq under way, interrupts on.
static bool interrupt_may_switch(const struct cpu *cpu, const struct frame *frame)
{
    return cpu->above_thread == 0 && cpu->preempt_off == 0 && (frame->rflags & CPU_FLAGS_IF) != 0;
}

// The books of the CPU's time (<sched/cputime.h>), when a program's turn ends and begins again.
static void interrupt_from_user(void)
{
    cputime_enter(cpu_field(books), CPU_SYSTEM);
}

static void interrupt_to_user(void)
{
    cputime_enter(cpu_field(books), current->nice > 0 ? CPU_NICE : CPU_USER);
}

// A program asks for something: by INT 0x80, or by SYSCALL, which looks the same by now.
static __noinline void interrupt_syscall(struct frame *frame)
{
    interrupt_from_user();
    syscall(frame);
    interrupt_to_user();
}

// The CPU ran into something.
static void interrupt_exception(struct frame *frame)
{
    bool from_user = frame_is_user(frame);

    if (from_user) {
        interrupt_from_user();
    }
    exception(frame);
    if (from_user) {
        interrupt_to_user();
    }
}

// An idle CPU had no readers and no tick: before a handler looks at lists and at jiffies.
static __noinline void interrupt_from_idle(struct cpu *cpu)
{
    rcu_idle_end();
    if (cpu->tick_stopped) {
        tick_irq_enter();
    }
}

// Stops 2 to 5 of an interrupt from outside; desc is NULL where the vector is no device's.
static __always_inline void interrupt_external(struct frame *frame, struct irq_desc *desc,
                                               bool is_device)
{
    struct cpu *cpu = cpu_self();

    cputime_irq_begin(cpu);
    cpu->irq_depth++;
    cpu->irq_frame = frame;
    if (unlikely(cpu->idle_marks != 0)) {
        interrupt_from_idle(cpu);
    }
    if (is_device) {
        irq_dispatch(cpu, desc);
    } else {
        irq_dispatch_system(cpu, (uint8_t)frame->vector);
    }
    if (cpu->above_thread == ABOVE_IS_IRQ && softirq_due(cpu)) {
        softirq_run();
    } else {
        cpu->irq_depth--;
        cputime_irq_end(cpu);
    }
    if (frame_is_user(frame)) {
        interrupt_from_user();
    }
    if (unlikely(cpu->tick_stopped) && cpu->irq_depth == 0) {
        tick_irq_exit();
    }
    if (unlikely(cpu->want_resched) && interrupt_may_switch(cpu, frame)) { // most often not wanted
        sched_preempt_irq();
    }
    if (frame_is_user(frame)) {
        process_return(); // does not, if ^C was typed meanwhile
        interrupt_to_user();
    }
}

static __noinline void interrupt_device(struct frame *frame, struct irq_desc *desc)
{
    interrupt_external(frame, desc, true);
}

static __noinline void interrupt_system(struct frame *frame)
{
    interrupt_external(frame, NULL, false);
}

// INT 0x80. But a device that has gone mad, or is bad, can send a message with that vector as with
// any other: such a one is in service, wants its EOI, and is no program's wish.
static __noinline void interrupt_int80(struct frame *frame)
{
    if (frame_is_user(frame) && !lapic_isr_test(VECTOR_SYSCALL)) {
        interrupt_syscall(frame);
    } else {
        interrupt_system(frame);
    }
}

// What is no device's: system calls, exceptions, and the kernel's own vectors.
static __noinline void interrupt_other(struct frame *frame)
{
    if (frame->vector == VECTOR_BY_SYSCALL) {
        interrupt_syscall(frame);
    } else if (frame->vector < EXC_COUNT) {
        interrupt_exception(frame);
    } else if (unlikely(frame->vector == VECTOR_SYSCALL)) {
        interrupt_int80(frame);
    } else {
        interrupt_system(frame);
    }
}

// Devices first: no exception and no system call has a descriptor. Each way is a function of its
// own, and none saves registers for another.
static __always_inline void interrupt_any(struct frame *frame)
{
    struct irq_desc *desc = irq_of_vector((uint8_t)frame->vector);

    if (likely(desc != NULL)) {
        interrupt_device(frame, desc);
    } else {
        interrupt_other(frame);
    }
}

// The gate has turned interrupts off, IRET will turn them on again: a section like any other for
// /proc/latency. Nothing turns off an NMI or a machine check.
static bool interrupt_is_section(const struct frame *frame)
{
    return (frame->rflags & CPU_FLAGS_IF) != 0 && frame->vector != EXC_NMI &&
           frame->vector != EXC_MC;
}

static __noinline void interrupt_policed(struct frame *frame)
{
    if (interrupt_is_section(frame)) {
        latency_interrupt_begins((const void *)(uintptr_t)interrupt);
    }
    interrupt_any(frame);
    if (interrupt_is_section(frame)) {
        latency_interrupt_ends((const void *)(uintptr_t)interrupt);
    }
}

void interrupt(struct frame *frame)
{
    if (unlikely(police_watches())) {
        interrupt_policed(frame);
        barrier(); // a call, not a jump: this function stays in the backtrace
    } else {
        interrupt_any(frame);
    }
}
