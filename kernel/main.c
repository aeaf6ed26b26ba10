// The boot, on one screen: everything that has an order is a line in one of the lists below, and
// everything that must be tied across layers (a lower one calling a higher one) is tied here, in
// the open, each knot with its reason.
//
//   kernel_main   boot CPU, boot stack, interrupts off: machine and memory, until threads can exist
//   main_init     the first thread (tid 1): other CPUs, services, devices, shell
//   ap_main       every other CPU, on its idle thread's stack
//
// Context: boot/start.S calls kernel_main, boot/trampoline.S ap_main. This file may see all layers.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_info.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/option.h>
#include <core/panic.h>
#include <core/stack_protector.h>
#include <core/trace.h>
#include <core/version.h>
#include <x86/acpi.h>
#include <x86/clock.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/ioapic.h>
#include <x86/lapic.h>
#include <x86/mce.h>
#include <x86/pic.h>
#include <x86/segments.h>
#include <x86/smp.h>
#include <mm/demand.h>
#include <mm/map.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>
#include <sched/thread.h>
#include <user/process.h>
#include <defer/irq_poll.h>
#include <defer/hrtimer.h>
#include <defer/irq_thread.h>
#include <defer/health.h>
#include <defer/line_poll.h>
#include <defer/rcu.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>
#include <defer/tick.h>
#include <defer/timer.h>
#include <defer/watchdog.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <dev/block.h>
#include <dev/netdev.h>
#include <dev/tty.h>
#include <char/ps2.h>
#include <char/screen.h>
#include <char/uart.h>
#include <iommu/iommu.h>
#include <pci/pci.h>
#include <misc/fw_cfg.h>
#include <net/net.h>
#include <shell/shell.h>

enum {
    MAIN_SCRIPT_SIZE = 16384,
    MAIN_CMDLINE_SIZE = 2048,
    MAIN_MCE_SECONDS = 5,
    MAIN_CPU_START_US = 10 * 1000 * 1000, // a busy host may not run a new virtual CPU for long
};

static uintptr_t main_ist_tops[MAX_CPUS][IST_COUNT]; // I
static const struct boot_info *main_boot;            // I
static char main_script[MAIN_SCRIPT_SIZE];           // I: console commands from the host

static void main_raise_balance(void)
{
    raise_softirq(SCHED_SOFTIRQ);
}

// The knots: what a low layer calls without knowing who answers.
static void main_tie(void)
{
    cpu_preempt_hook = sched_preempt; // core: the last unlock may switch threads
    sched_raise_balance =
        main_raise_balance;              // sched: the tick leaves what takes longer to a softirq
    panic_stop_others = ipi_stop_others; // core: nobody runs on while the end is told
    panic_is_stack = map_is_stack;       // core: a backtrace reads stacks only
    panic_flush = tty_log_flush_polled;  // core: the last lines must be seen
    panic_thread_name = thread_current_name; // core: who did it
    panic_reboot = acpi_reboot;              // core: panic=reboot

    // x86: a fault in a guard page is an overflow, and has a name
    exception_guard_name = map_guard_name;
    exception_user = process_exception;  // x86: a program's mistake is the end of the program
    exception_fixup_page = demand_fault; // x86: memory that gets its pages when they are touched
    map_shootdown = ipi_tlb_shootdown;   // mm: an unmapped page must leave every CPU's TLB
    page_lent_hook = dma_debug_freed;    // mm: what is freed may be a device's still
    irq_threads = &irq_thread_ops;       // irq: a handler may wake a thread
    netdev_input = eth_input;            // dev: what drivers receive goes to the protocols
    netdev_notify = net_notify;          // dev: carrier and address follow each other
}

// Options from the boot loader's line, then from the host's file, so that a script need not make an
// ISO.
static void main_read_options(const struct boot_info *boot)
{
    static char cmdline[MAIN_CMDLINE_SIZE];

    boot_options_parse(boot->cmdline, boot->protocol);
    long length = fw_cfg_read_file("opt/org.tophalf/cmdline", cmdline, sizeof(cmdline));
    if (length > 0) {
        boot_options_parse(cmdline, "fw_cfg");
    } else if (length == -EFBIG) {
        pr_warn("fw_cfg: opt/org.tophalf/cmdline is longer than %d bytes, it is not obeyed",
                MAIN_CMDLINE_SIZE - 1);
    }
    for (unsigned i = 0; i < boot->note_count; i++) {
        pr_warn("%s: %s", boot->protocol, boot->notes[i]);
    }
}

// ACPI tables may lie anywhere; a mapping of the kernel's own shows them to the parser.
static void main_read_tables(const struct boot_info *boot)
{
    acpi_parse(boot, memremap, &acpi); // without tables it assumes a plain PC, and notes that

    for (unsigned i = 0; i < acpi.note_count; i++) {
        pr_warn("ACPI: %s", acpi.notes[i]);
    }
}

static void *main_map_registers(phys_t address, size_t size)
{
    return (void *)(uintptr_t)ioremap(address, size);
}

static void main_start_clock(void)
{
    volatile void *hpet = acpi.hpet_base != 0 ? ioremap(acpi.hpet_base, 1024) : NULL;

    clock_calibrate(hpet, (uint16_t)acpi.pm_timer);
}

static void main_start_iommu(void)
{
    const void *table = NULL;
    size_t size = 0;

    for (unsigned i = 0; i < acpi.table_count && table == NULL; i++) {
        if (strcmp(acpi.tables[i].signature, "DMAR") == 0) {
            size = acpi.tables[i].length;
            table = memremap(acpi.tables[i].address, size);
        }
    }
    iommu_init(table, size);
}

// Controllers: 8259s silenced, local APIC, IO-APICs, then the map from wires to irqs. The clock
// comes right behind the local APIC, whose timer is measured in the same ten milliseconds.
static void main_start_interrupts(void)
{
    pic_disable();
    if (!lapic_init(acpi.lapic_base, main_map_registers)) {
        panic("this CPU has no local APIC: tophalf needs one (use a 64-bit CPU model such as "
              "qemu64)");
    }
    main_start_clock();
    lapic_timer_calibrate();
    for (unsigned i = 0; i < acpi.ioapic_count; i++) {
        ioapic_add(acpi.ioapics[i].id, acpi.ioapics[i].base, acpi.ioapics[i].gsi_base,
                   main_map_registers);
    }
    main_start_iommu(); // before the first interrupt is told where to go
    route_init(&acpi);
    ipi_init();
    irq_set_system_vector(VECTOR_TIMER, IRQ_STAT_LOC, hrtimer_interrupt);
}

// CPU numbers: the boot CPU is 0, the others follow in the order of the MADT. An xAPIC cannot send
// to identifiers beyond 254.
static void main_number_cpus(void)
{
    uint32_t boot_id = lapic_id();
    unsigned limit = min(smp_max_cpus(), (unsigned)MAX_CPUS);

    cpus[0].apic_id = boot_id;
    cpus[0].online = true;
    cpumask_set(&cpu_online_mask, 0);
    cpu_count = 1;
    for (unsigned i = 0; i < acpi.cpu_count && cpu_count < limit; i++) {
        if (acpi.cpus[i].apic_id != boot_id && (acpi.cpus[i].apic_id < 255 || lapic_is_x2apic())) {
            cpus[cpu_count].id = cpu_count;
            cpus[cpu_count].apic_id = acpi.cpus[i].apic_id;
            cpu_count++;
        }
    }
    if (acpi.cpu_total > cpu_count) {
        pr_info("smp: %u of the machine's %u CPUs stay out", acpi.cpu_total - cpu_count,
                acpi.cpu_total);
    }
}

// Stacks for the exceptions that must not trust the current one. Made on the boot CPU: a starting
// CPU has no %gs yet and may take no lock.
static bool main_make_ist_stacks(unsigned cpu)
{
    for (unsigned i = 0; i < IST_COUNT; i++) {
        void *stack = map_stack();

        if (stack == NULL) {
            return false;
        }
        main_ist_tops[cpu][i] = (uintptr_t)stack + KERNEL_STACK_SIZE;
    }
    return true;
}

// Each CPU's time against this one's.
static void main_compare_clocks(void)
{
    for_each_online_cpu (cpu) {
        if (cpu != cpu_id() && smp_call_function_single(cpu, clock_compare, NULL, false) == 0) {
            clock_compare(NULL);
            clock_compare_end(cpu);
        }
    }
}

static void main_start_cpus(void)
{
    phys_t page = cpu_count > 1 ? page_take_low() : 0;

    if (cpu_count > 1 && page == 0) {
        pr_err("smp: no free page below 1 MiB for the start-up code: running on one CPU");
        return;
    }
    if (cpu_count > 1) {
        smp_prepare(page, map_root());
    }
    for (unsigned cpu = 1; cpu < cpu_count; cpu++) {
        void *stack = map_stack();

        if (stack == NULL || !main_make_ist_stacks(cpu)) {
            pr_err("smp: no memory to start CPU %u", cpu);
            break;
        }
        smp_start_cpu(cpu, (uintptr_t)stack + KERNEL_STACK_SIZE, MAIN_CPU_START_US);
    }
    main_compare_clocks();
    pr_info("smp: %u of %u CPUs are up", cpumask_weight(&cpu_online_mask), cpu_count);
}

// Hardware errors that were corrected raise no exception: somebody has to look, on each CPU.
static struct delayed_work main_mce_work;

static void main_mce_look(void *arg)
{
    (void)arg;
    machine_check_poll();
}

static void main_mce_poll(struct work_struct *work)
{
    (void)work;
    on_each_cpu(main_mce_look, NULL);
    schedule_delayed_work(&main_mce_work, MAIN_MCE_SECONDS * HZ);
}

// The first thread: everything that may sleep. What is slow (link negotiation, DHCP) goes on behind
// the prompt.
static void main_init(void *arg)
{
    (void)arg;
    pci_init(); // before other CPUs run: what devices decode is switched off to be measured
    main_start_cpus();
    softirq_start_threads();
    workqueue_init();
    watchdog_init();
    line_poll_init();
    health_init();
    INIT_DELAYED_WORK(&main_mce_work, main_mce_poll);
    schedule_delayed_work(&main_mce_work, MAIN_MCE_SECONDS * HZ);
    uart_init();
    ps2_init();
    screen_init(main_boot);
    shell_init();
    tty_start_log_thread();
    blk_init();
    netdev_init();
    net_init();
    iommu_start();
    pci_probe_all();
    long length = fw_cfg_read_file("opt/org.tophalf/script", main_script, sizeof(main_script));
    if (length == -EFBIG) {
        pr_warn("fw_cfg: opt/org.tophalf/script is longer than %d bytes, it is not run",
                MAIN_SCRIPT_SIZE - 1);
    }
    main_script[max(length, 0l)] = '\0';
    shell_start(main_script);
}

__noreturn void kernel_main(const struct boot_info *boot)
{
    struct thread *init;

    gdt_init_early(); // from here on exceptions are told
    main_boot = boot;
    panic_peek(boot->cmdline);
    uart_early_init();
    tty_log_early(uart_write_polled);
    cpuid_init();
    cpu_protect();
    stack_protector_init(cpu_random());
    pr_info(KERNEL_NAME " version " KERNEL_VERSION ", started by %s (%s) on %s", boot->loader,
            boot->protocol, cpuid_brand());
    main_tie();
    trace_enable(true);
    main_read_options(boot);
    police_settle(); // while the kernel's text can still be written

    page_init(boot);
    map_init(boot);
    slab_init();
    if (!main_make_ist_stacks(0)) {
        panic("no memory for the first stacks: give the machine more than 16 MiB");
    }
    gdt_init_cpu(0, main_ist_tops[0]);

    main_read_tables(boot);
    main_start_interrupts();
    main_number_cpus();

    sched_init();
    softirq_init_subsystem();
    open_softirq(SCHED_SOFTIRQ, sched_balance_softirq);
    timer_init_subsystem();
    hrtimers_init();
    tick_init();
    tasklet_init_subsystem();
    irq_poll_init_subsystem();
    rcu_init_subsystem();
    tty_init();
    tick_start();
    local_irq_enable();
    init = kthread_run(main_init, NULL, "init");
    if (init == NULL) {
        panic("no memory for the first thread: give the machine more than 16 MiB");
    }
    thread_put(init);
    sched_idle();
}

__noreturn void ap_main(unsigned cpu)
{
    gdt_init_cpu(cpu, main_ist_tops[cpu]);
    cpu_protect();
    map_load();
    lapic_init_cpu();
    sched_init_cpu();
    smp_ap_is_up();
    tick_start();
    local_irq_enable();
    sched_idle();
}
