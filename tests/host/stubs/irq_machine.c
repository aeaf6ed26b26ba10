// See irq_machine.h. %gs, through which the kernel finds its CPU, is free in 64-bit user programs:
// the kernel lets us set its base.
#include "irq_machine.h"

#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <lib/text.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <x86/exception.h>
#include <x86/ioapic.h>
#include <x86/lapic.h>
#include <x86/pic.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>

#include "stubs.h"

// ---- CPUs ----

struct cpu cpus[MAX_CPUS];
unsigned cpu_count;
struct cpumask cpu_online_mask;
struct cpumask cpu_isolated_mask;

void fake_cpu(unsigned cpu)
{
    assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, &cpus[cpu]), 0);
}

void fake_hardirq(bool on)
{
    cpu_self()->irq_depth = on;
}

void fake_interrupt(unsigned vector)
{
    uint16_t depth = cpu_self()->irq_depth++;
    struct irq_desc *desc = irq_of_vector((uint8_t)vector);
    if (desc != NULL) {
        irq_dispatch(cpu_self(), desc);
    } else {
        irq_dispatch_system(cpu_self(), (uint8_t)vector);
    }
    cpu_self()->irq_depth = depth;
}

void preempt_enable_slow(void)
{
}

// ---- time, trace, symbols ----

volatile uint32_t jiffies;

uint64_t clock_tsc_to_ns(uint64_t tsc_delta)
{
    return tsc_delta;
}

uint64_t clock_ns(void)
{
    static uint64_t now;
    return now += 1000;
}

void trace(enum trace_event event, uint32_t a, uint64_t b)
{
    (void)event, (void)a, (void)b;
}

bool log_limit_ok(struct log_limit *limit, uint32_t *held)
{
    (void)limit;
    *held = 0;
    return true;
}

void text_symbol(struct text *t, uintptr_t address)
{
    (void)address;
    text_puts(t, "some_handler");
}

void backtrace_print(const struct frame *frame)
{
    (void)frame;
}

uint64_t exception_count(unsigned vector, unsigned cpu)
{
    return vector * 10 + cpu;
}

// ---- locks: single-threaded, so one that is taken twice would hang the kernel ----

static unsigned locks_held;

void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

void spin_lock(struct spinlock *lock)
{
    assert_int_equal(lock->holder, 0);
    lock->holder = 1;
    locks_held++;
}

void spin_unlock(struct spinlock *lock)
{
    assert_int_equal(lock->holder, 1);
    lock->holder = 0;
    locks_held--;
}

unsigned long spin_lock_irqsave_flags(struct spinlock *lock)
{
    spin_lock(lock);
    return 0x202;
}

void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags)
{
    assert_int_equal(flags, 0x202);
    spin_unlock(lock);
}

// ---- memory ----

unsigned fake_allocations, fake_failing_after;

void *kzalloc(size_t size, enum gfp flags)
{
    (void)flags;
    if (fake_failing_after == 0) {
        return NULL;
    }
    fake_failing_after--;
    fake_allocations++;
    return calloc(1, size);
}

void kfree(const void *pointer)
{
    assert_non_null(pointer);
    fake_allocations--;
    free((void *)(uintptr_t)pointer);
}

// ---- the journal ----

static char journal[8192];

const char *fake_journal(void)
{
    static char read[sizeof(journal)];
    memcpy(read, journal, sizeof(read));
    journal[0] = '\0';
    return read;
}

void fake_note(const char *format, ...)
{
    size_t length = strlen(journal);
    if (length > sizeof(journal) - 64) {
        return; // a long test looks at counts, not at the journal
    }
    if (length != 0) {
        journal[length++] = ' ';
    }
    va_list args;
    va_start(args, format);
    vsnprintf(journal + length, sizeof(journal) - length, format, args);
    va_end(args);
}

// ---- local APIC and 8259s ----

bool fake_in_service[256], fake_pic_real;

void lapic_eoi(void)
{
    fake_note("EOI");
}

bool lapic_isr_test(uint8_t vector)
{
    return fake_in_service[vector];
}

unsigned lapic_end_in_service(uint8_t held, uint8_t *vectors, unsigned room)
{
    unsigned ended = 0;

    for (int vector = 255; vector >= 0; vector--) {
        if (fake_in_service[vector] && lapic_is_held_back(held, (uint8_t)vector)) {
            fake_in_service[vector] = false;
            lapic_eoi();
            if (ended < room) {
                vectors[ended] = (uint8_t)vector;
            }
            ended++;
        }
    }
    return ended;
}

uint32_t lapic_icr_retries(unsigned cpu)
{
    return cpu + 100;
}

// Messages that wait at a CPU: each look lets one through.
unsigned fake_waiting;

bool lapic_irr_test(uint8_t vector)
{
    fake_note("irr(%u)", route_vector_irq(vector));
    return fake_waiting != 0 && fake_waiting-- != 0;
}

int smp_call_function_single(unsigned cpu, void (*fn)(void *arg), void *arg, bool wait)
{
    assert_true(wait);
    assert_int_equal(locks_held, 0);
    fake_note("call(%u)", cpu);
    fn(arg);
    return 0;
}

bool pic_stray(unsigned line)
{
    fake_note("pic(%u)", line);
    return fake_pic_real;
}

// ---- the controller ----

int fake_affinity_error;

// The contract says that the descriptor's lock is held in each of these.
static void chip_note(const char *what, const struct irq_data *data)
{
    assert_int_equal(container_of(data, struct irq_desc, data)->lock.holder, 1);
    fake_note("%s(%u)", what, data->irq);
}

static void chip_startup(struct irq_data *data)
{
    chip_note("startup", data);
}

static void chip_shutdown(struct irq_data *data)
{
    chip_note("shutdown", data);
}

static void chip_mask(struct irq_data *data)
{
    chip_note("mask", data);
}

static void chip_unmask(struct irq_data *data)
{
    chip_note("unmask", data);
}

static void chip_eoi(struct irq_data *data)
{
    fake_note("eoi(%u)", data->irq);
}

static void chip_retrigger(struct irq_data *data)
{
    chip_note("retrigger", data);
}

static int chip_set_type(struct irq_data *data)
{
    chip_note(data->level        ? data->active_low ? "low" : "high"
              : data->active_low ? "fall"
                                 : "rise",
              data);
    return 0;
}

static int chip_set_affinity(struct irq_data *data)
{
    chip_note("move", data);
    fake_note("to(%u)", data->apic_id);
    return fake_affinity_error;
}

// The IO-APIC for kernel/irq/route.c: pins 0 to FAKE_WIRES - 1.
const struct irq_chip ioapic_chip = {
    .name = "IO-APIC",
    .irq_startup = chip_startup,
    .irq_shutdown = chip_shutdown,
    .irq_mask = chip_mask,
    .irq_unmask = chip_unmask,
    .irq_eoi = chip_eoi,
    .irq_retrigger = chip_retrigger,
    .irq_set_type = chip_set_type,
    .irq_set_affinity = chip_set_affinity,
};

static void message_show(const struct irq_data *data, char *to, size_t size)
{
    (void)data;
    snprintf(to, size, "PCI-MSI-0000:00:1f.2");
}

const struct irq_chip fake_message_chip = {
    .name = "PCI-MSI",
    .irq_startup = chip_startup,
    .irq_shutdown = chip_shutdown,
    .irq_mask = chip_mask,
    .irq_unmask = chip_unmask,
    .irq_eoi = chip_eoi,
    .irq_retrigger = chip_retrigger,
    .irq_show = message_show,
};

uint32_t ioapic_mis_count;

unsigned ioapic_gsi_end(void)
{
    return FAKE_WIRES;
}

int ioapic_irq_data(unsigned gsi, struct irq_data *data)
{
    if (gsi >= FAKE_WIRES) {
        return -ENOENT;
    }
    data->hwirq = gsi;
    data->chip = &ioapic_chip;
    return 0;
}

void fake_reset(void)
{
    assert_int_equal(locks_held, 0);
    for (unsigned irq = 0; irq < MAX_IRQS; irq++) {
        if (irq_descs[irq].data.vector != 0) {
            route_vector_free(irq_descs[irq].data.vector);
        }
    }
    memset(irq_descs, 0, sizeof(irq_descs));
    memset(cpus, 0, sizeof(cpus));
    memset(&cpu_online_mask, 0, sizeof(cpu_online_mask));
    memset(&irq_default_affinity, 0, sizeof(irq_default_affinity));
    memset(fake_in_service, 0, sizeof(fake_in_service));
    cpu_count = FAKE_CPUS;
    for (unsigned cpu = 0; cpu < FAKE_CPUS; cpu++) {
        cpus[cpu].self = &cpus[cpu];
        cpus[cpu].id = cpu;
        cpus[cpu].apic_id = 10 + cpu;
        cpus[cpu].online = true;
        cpumask_set(&cpu_online_mask, cpu);
    }
    jiffies = 1000;
    irq_err_count = 0;
    warn_count = 0;
    fake_affinity_error = 0;
    fake_allocations = 0;
    fake_waiting = 0;
    fake_failing_after = 100000;
    journal[0] = '\0';
    stub_log_clear();
    fake_cpu(0);
}

void fake_free_all(void)
{
    for (unsigned irq = 0; irq < MAX_IRQS; irq++) {
        while (irq_descs[irq].action != NULL) {
            free_irq(irq, irq_descs[irq].action->dev_id);
        }
    }
}
