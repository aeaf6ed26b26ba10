// `lab demand` and `lab classes`: what a CPU does between "it happened" and "as if nothing had
// been".
//
//   class      comes from              in step  goes on
//   interrupt  a device, another CPU   no       where it struck: nothing is missing
//   trap       an instruction: INT n   yes      behind the instruction, which is done
//   fault      an instruction that     yes      at the instruction, which is run again
//              cannot be done yet
//   abort      hardware, or a fault    -        never
//              while a fault began
//
// The lab makes one of each, but for the last, and reads from the CPU's own frame where it struck
// and where it went on. Intel SDM vol. 3, 6.5. Context: thread.
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <lib/format.h>
#include <lib/string.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <mm/demand.h>
#include <mm/map.h>
#include <irq/desc.h>
#include <irq/soft_line.h>
#include <sched/mutex.h>

enum { LAB_WAIT_US = 1000 * 1000, LAB_DEMAND_PAGES = 4 };

static DEFINE_MUTEX(lab_fault_mutex); // the hooks below are one for all

static const char *lab_symbol(char cell[64], uintptr_t address)
{
    struct text t;

    text_init(&t, cell, 64);
    text_symbol(&t, address);
    return cell;
}

static uint64_t lab_total(unsigned vector)
{
    uint64_t total = 0;

    for_each_online_cpu (cpu) {
        total += exception_count(vector, cpu);
    }
    return total;
}

// ---- lab demand ---------------------------------------------------------------------------------

// Reads through one instruction whose address is known. Where it stands, and what it read.
static __noinline uintptr_t lab_touch(const uint64_t *at, uint64_t *value)
{
    uintptr_t instruction;

    __asm__ volatile("leaq 1f(%%rip), %1\n\t"
                     "1: movq (%2), %0"
                     : "=&r"(*value), "=&r"(instruction)
                     : "r"(at)
                     : "memory");
    return instruction;
}

static void lab_demand_page(struct shell *sh, const uint64_t *at)
{
    static const char *const bits[] = {"nothing mapped", "mapped"};
    struct demand_event event;
    char where[64];
    unsigned level;
    uint64_t value, before = map_lookup((uintptr_t)at, &level);
    uint64_t faults = demand_fault_count();
    uintptr_t instruction = lab_touch(at, &value);

    demand_last(&event);
    faults = demand_fault_count() - faults;
    shell_printf(sh, "read 0x%016lx by %s\n", (uintptr_t)at, lab_symbol(where, instruction));
    shell_printf(sh, "  entry before   0x%016llx  %s\n", (unsigned long long)before,
                 bits[(before & PTE_P) != 0]);
    if (faults != 0) {
        shell_printf(sh, "  #PF            CR2 0x%016lx, error 0x%llx, rip %s\n", event.address,
                     (unsigned long long)event.error, lab_symbol(where, event.rip));
        shell_printf(sh, "  repaired       in %llu cycles; run again: rip %s, %s\n",
                     (unsigned long long)event.cycles, lab_symbol(where, instruction),
                     event.rip == instruction ? "the same" : "ANOTHER");
    }
    uint64_t after = map_lookup((uintptr_t)at, &level);
    shell_printf(sh, "  entry after    0x%016llx  %s\n", (unsigned long long)after,
                 bits[(after & PTE_P) != 0]);
    shell_printf(sh, "  read           %llu, %llu fault%s\n", (unsigned long long)value,
                 (unsigned long long)faults, faults == 1 ? "" : "s");
}

static int lab_demand(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    uint8_t *region = demand_alloc(LAB_DEMAND_PAGES * PAGE_SIZE);
    if (region == NULL) {
        return shell_error(sh, "no room for a region");
    }
    uint64_t faults = demand_fault_count();
    shell_printf(sh, "a region of %u pages at 0x%016lx, none of them there yet\n", LAB_DEMAND_PAGES,
                 (uintptr_t)region);
    lab_demand_page(sh, (uint64_t *)(void *)(region + PAGE_SIZE + 0x10));
    shell_printf(sh, "the same page once more:\n");
    lab_demand_page(sh, (uint64_t *)(void *)(region + PAGE_SIZE + 0x18));
    shell_printf(sh, "written end to end:\n");
    memset(region, 0x5a, LAB_DEMAND_PAGES * PAGE_SIZE);
    shell_printf(sh, "  %llu faults for %u pages\n",
                 (unsigned long long)(demand_fault_count() - faults), LAB_DEMAND_PAGES);
    demand_free(region);
    return 0;
}

LAB("demand", lab_demand, "", "a fault that is repaired: memory that comes when it is touched");

// ---- lab classes --------------------------------------------------------------------------------

// What the CPU's frame said of one event.
struct lab_event {
    uintptr_t at;   // where it struck: of a trap, behind the instruction already
    uintptr_t next; // where it went on
    bool seen;      // A
};
static struct lab_event lab_event; // L of lab_fault_mutex

static irqreturn_t lab_class_handler(int irq, void *dev_id)
{
    struct lab_event *event = dev_id;

    (void)irq;
    event->at = cpu_self()->irq_frame->rip;
    WRITE_ONCE(event->seen, true);
    return IRQ_HANDLED;
}

// A message to this very CPU waits while interrupts are off; behind STI and the instruction that it
// still protects it strikes, in front of label 1.
static bool lab_interrupt(struct lab_event *event)
{
    int irq = soft_line_open(lab_class_handler, event, "lab");

    if (irq < 0) {
        return false;
    }
    unsigned long flags = local_irq_save();
    soft_line_send(irq, cpu_id());
    wait_until(lapic_irr_test(soft_line_vector(irq)), LAB_WAIT_US);
    __asm__ volatile("leaq 1f(%%rip), %0\n\t"
                     "sti\n\t"
                     "nop\n\t"
                     "1: nop"
                     : "=r"(event->next)::"memory");
    local_irq_restore(flags);
    soft_line_close(irq, event);
    return event->seen;
}

static struct thread *lab_trapper; // whose traps are ours

static bool lab_class_trap(const struct exception_record *record, struct frame *frame)
{
    (void)record;
    if (cpu_current() != lab_trapper) {
        return false;
    }
    lab_event.at = frame->rip;
    lab_event.seen = true;
    return true;
}

static bool lab_int3(struct lab_event *event)
{
    __asm__ volatile("leaq 1f(%%rip), %0\n\t"
                     "int3\n\t"
                     "1:"
                     : "=r"(event->next)::"memory");
    return event->seen;
}

static bool lab_int_n(struct lab_event *event)
{
    __asm__ volatile("leaq 1f(%%rip), %0\n\t"
                     "int $4\n\t"
                     "1:"
                     : "=r"(event->next)::"memory");
    return event->seen;
}

static bool lab_fault(struct lab_event *event)
{
    uint64_t *region = demand_alloc(PAGE_SIZE), value;
    uint64_t before = demand_fault_count();
    struct demand_event last;

    if (region == NULL) {
        return false;
    }
    event->next = lab_touch(region, &value);
    demand_last(&last);
    event->at = last.rip;
    event->seen = demand_fault_count() != before;
    demand_free(region);
    return event->seen;
}

static uint64_t lab_count_interrupts(void)
{
    uint64_t total = 0;

    for_each_online_cpu (cpu) {
        total += READ_ONCE(cpus[cpu].interrupts);
    }
    return total;
}

static const struct lab_class {
    const char *class, *example, *origin, *sync;
    bool (*make)(struct lab_event *event); // NULL: nobody would be left to tell
    const char *goes_on;
    unsigned vector; // whose counter is shown; EXC_COUNT: all interrupts
} lab_classes[] = {
    {"interrupt", "self-IPI", "another CPU, a device", "no", lab_interrupt, "where it struck",
     EXC_COUNT},
    {"interrupt", "NMI", "hardware, another CPU", "no", NULL, "where it struck", EXC_NMI},
    {"trap", "INT3", "the instruction", "yes", lab_int3, "behind it", EXC_BP},
    {"trap", "INT 4", "the instruction", "yes", lab_int_n, "behind it", EXC_OF},
    {"fault", "#PF", "the instruction", "yes", lab_fault, "at it again", EXC_PF},
    {"abort", "#DF", "a fault in a fault", "-", NULL, "never: fault df", EXC_DF},
    {"abort", "#MC", "broken hardware", "no", NULL, "never, with PCC", EXC_MC},
};

static void lab_show_class(struct shell *sh, const struct lab_column *columns,
                           const struct lab_class *class)
{
    char at[64] = "-", next[64] = "-", count[24];

    lab_event = (struct lab_event){0};
    if (class->make != NULL && class->make(&lab_event)) {
        lab_symbol(at, lab_event.at);
        lab_symbol(next, lab_event.next);
    }
    uint64_t total = class->vector == EXC_COUNT ? lab_count_interrupts() : lab_total(class->vector);
    snprintf(count, sizeof(count), "%llu", (unsigned long long)total);
    lab_row(sh, columns,
            (const char *const[]){class->class, class->example, class->origin, class->sync, at,
                                  next, class->goes_on, count});
}

static int lab_show_classes(struct shell *sh, int argc, char **argv)
{
    static const struct lab_column columns[] = {
        {"class", -9},    {"example", -8},    {"comes from", -21},
        {"sync", -4},     {"saved rip", -24}, {"went on at", -24},
        {"goes on", -15}, {"so far", 8},      {NULL, 0}};

    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    lab_table(sh, columns);
    mutex_lock(&lab_fault_mutex);
    lab_trapper = cpu_current();
    WRITE_ONCE(exception_trap, lab_class_trap);
    for (size_t i = 0; i < ARRAY_SIZE(lab_classes); i++) {
        lab_show_class(sh, columns, &lab_classes[i]);
    }
    WRITE_ONCE(exception_trap, NULL);
    mutex_unlock(&lab_fault_mutex);
    shell_printf(sh, "A program's INT 0x80 and SYSCALL are traps as well: run hello. "
                     "A fault that nobody repairs: fault pf.\n");
    return 0;
}

LAB("classes", lab_show_classes, "",
    "interrupt, trap, fault, abort: one of each, where it struck and where it went on");
