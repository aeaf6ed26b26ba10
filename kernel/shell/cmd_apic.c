// `apic`, `ioapic`, `idt`: the interrupt hardware as it stands, CPU by CPU.
//
// `apic` asks every CPU to read its own local APIC, by an interrupt: nobody else can. `idt check`
// compares each gate and each CPU's IDTR with what the kernel set at boot; a gate that leads
// elsewhere is the classic hook of a rootkit.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <core/kallsyms.h>
#include <x86/exception.h>
#include <x86/ioapic.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>
#include <sched/mutex.h>
#include "irq_check.h"

enum { APIC_TEXT_SIZE = 4096, IDT_VECTORS = 256 };

static DEFINE_MUTEX(apic_mutex); // one asks at a time: the answer's buffer is shared

// ---- apic ---------------------------------------------------------------------------------------

static void apic_read(void *arg)
{
    lapic_show(arg);
}

static void apic_write_tpr(void *arg)
{
    lapic_set_tpr((uint8_t)(uintptr_t)arg);
}

static int apic_show(struct shell *sh)
{
    char *buffer = kmalloc(APIC_TEXT_SIZE, GFP_KERNEL);
    int status = 0;

    if (buffer == NULL) {
        return shell_error(sh, "%s", strerror(ENOMEM));
    }
    mutex_lock(&apic_mutex);
    for_each_online_cpu (cpu) {
        struct text t;

        text_init(&t, buffer, APIC_TEXT_SIZE);
        if (smp_call_function_single(cpu, apic_read, &t, true) != 0) {
            status = shell_error(sh, "CPU %u does not answer", cpu);
            break; // it may still write: the buffer is left to it
        }
        shell_printf(sh, "CPU %u:\n", cpu);
        shell_write(sh, t.data, t.length);
    }
    mutex_unlock(&apic_mutex);
    if (status == 0) {
        kfree(buffer);
    }
    return status;
}

static int cmd_apic(struct shell *sh, int argc, char **argv)
{
    uint32_t cpu, tpr;

    if (argc == 1) {
        return apic_show(sh);
    }
    if (argc != 4 || strcmp(argv[1], "tpr") != 0 || kstrtou32(argv[2], 10, &cpu) != 0 ||
        kstrtou32(argv[3], 0, &tpr) != 0) {
        return shell_usage(sh, "what to do?");
    }
    if (!cpumask_test(&cpu_online_mask, cpu)) {
        return shell_error(sh, "CPU %u is not online", cpu);
    }
    // Class 0xf would hold back the kernel's own messages, and nobody could lower it again.
    if (tpr > 0xef) {
        return shell_error(sh, "0x%x: a task priority is 0 to 0xef here", tpr);
    }
    smp_call_function_single(cpu, apic_write_tpr, (void *)(uintptr_t)tpr, true);
    return 0;
}

COMMAND("apic", cmd_apic, "apic | apic tpr CPU VALUE",
        "the local APIC of every CPU, decoded\n"
        "apic tpr 1 0x80 holds back vectors of class 8 and below on CPU 1; 0 lets all in");

static int cmd_ioapic(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    char *buffer = kmalloc(4 * APIC_TEXT_SIZE, GFP_KERNEL);
    if (buffer == NULL) {
        return shell_error(sh, "%s", strerror(ENOMEM));
    }
    struct text t;
    text_init(&t, buffer, 4 * APIC_TEXT_SIZE);
    ioapic_show(&t);
    shell_write(sh, t.data, t.length);
    kfree(buffer);
    return 0;
}

COMMAND("ioapic", cmd_ioapic, "ioapic",
        "the redirection entry of every wire, as the hardware has it");

// ---- idt ----------------------------------------------------------------------------------------

static void idt_show_vector(struct shell *sh, unsigned vector)
{
    char gate[96];
    struct text t = TEXT_INIT(gate);
    unsigned irq = route_vector_irq((uint8_t)vector);

    text_symbol(&t, idt_target(vector));
    shell_printf(sh, "0x%02x %-22s %s", vector, gate, idt_gate_is_good(vector) ? "" : "CHANGED ");
    if (vector < EXC_COUNT) {
        shell_printf(sh, "%s %s\n", exception_mnemonic(vector), exception_name(vector));
    } else if (irq != MAX_IRQS) {
        shell_printf(sh, "irq %u\n", irq);
    } else {
        shell_printf(sh, "%s\n",
                     vector == VECTOR_TIMER           ? "local timer"
                     : vector == VECTOR_IRQ_WORK      ? "irq work"
                     : vector == VECTOR_TLB_SHOOTDOWN ? "TLB shoot-down"
                     : vector == VECTOR_CALL_FUNCTION ? "function call"
                     : vector == VECTOR_RESCHEDULE    ? "reschedule"
                     : vector == VECTOR_LAPIC_ERROR   ? "local APIC error"
                     : vector == VECTOR_SPURIOUS      ? "spurious"
                     : vector == VECTOR_SYSCALL       ? "system call"
                                                      : "-");
    }
}

static void idt_ask(void *arg)
{
    if (!idt_is_loaded()) {
        __atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_RELAXED);
    }
}

static int idt_check(struct shell *sh)
{
    static unsigned foreign; // L of apic_mutex; outlives a CPU that answers late
    unsigned bad = 0, wires, messages;

    for (unsigned vector = 0; vector < IDT_VECTORS; vector++) {
        if (!idt_gate_is_good(vector)) {
            idt_show_vector(sh, vector);
            bad++;
        }
    }
    mutex_lock(&apic_mutex);
    foreign = 0;
    on_each_cpu(idt_ask, &foreign);
    bad += foreign;
    if (foreign != 0) {
        shell_printf(sh, "%u CPUs have another table loaded\n", foreign);
    }
    mutex_unlock(&apic_mutex);
    bad += irq_check_hardware(sh, &wires, &messages);
    shell_printf(sh, "idt: %u gates on %u CPUs, %u differences\n", IDT_VECTORS,
                 cpumask_weight(&cpu_online_mask), bad);
    return bad == 0 ? 0 : 1;
}

static int cmd_idt(struct shell *sh, int argc, char **argv)
{
    uint32_t vector;

    if (argc == 1) {
        for (vector = 0; vector < IDT_VECTORS && !shell_interrupted(sh); vector++) {
            idt_show_vector(sh, vector);
        }
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "check") == 0) {
        return idt_check(sh);
    }
    if (argc == 2 && kstrtou32(argv[1], 0, &vector) == 0 && vector < IDT_VECTORS) {
        idt_show_vector(sh, vector);
        return 0;
    }
    return shell_usage(sh, "%s: not a vector from 0 to 255", argv[1]);
}

COMMAND("idt", cmd_idt, "idt [VECTOR] | idt check",
        "where each vector leads; whether gates, tables and wires are as the kernel set them");
