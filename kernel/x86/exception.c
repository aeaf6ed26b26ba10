// The CPU's own exceptions: named, decoded, counted; then repaired, caught by whoever expected
// them, or told in full and fatal.
//
// Called by the spine for vectors 0 to 31. In order:
//
//   NMI, #MC          have their own ends
//   ring 3            is the business of whoever is tied to exception_user
//   a page fault      may be repaired by whoever is tied to exception_fixup_page: the instruction
//                     is run again
//   a trap            may be that of whoever is tied to exception_trap: it goes on behind it
//   an instruction    that may fault has a record in the set exception_fixup: go on where it says
//   a thread          that runs inside exception_catch gets its fault back as a return value
//   #BP, #DB          nobody asked for are told, and execution goes on: they are traps
//   anything else     is our own mistake: panic, with all that is known
//
// Intel SDM vol. 3, 6.13 (error codes), 6.15 (each exception), 17.2.3 (DR6); 4.7 (page faults).
// Context: the exception's own, interrupts off; #DF, NMI and #MC on stacks of their own.
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <lib/string.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <x86/mce.h>
#include <x86/msr.h>

_Static_assert(offsetof(struct frame, rip) == 136, "entry.S: FRAME_RIP");
_Static_assert(offsetof(struct frame, cs) == 144, "entry.S: FRAME_CS");
_Static_assert(sizeof(struct frame) % 16 == 0, "entry.S: rsp is aligned where it calls");

bool (*exception_user)(const struct exception_record *record, struct frame *frame);
bool (*exception_fixup_page)(uintptr_t address, struct frame *frame);
bool (*exception_trap)(const struct exception_record *record, struct frame *frame);
bool (*exception_nmi)(struct frame *frame);
const char *(*exception_guard_name)(uintptr_t address);

static uint32_t exception_counts[MAX_CPUS][EXC_COUNT]; // C

// ---- names --------------------------------------------------------------------------------------

enum exception_error { ERROR_NONE, ERROR_ZERO, ERROR_SELECTOR, ERROR_PAGE, ERROR_CODE };

static const struct {
    const char *mnemonic, *name;
    enum exception_error error; // what its error code means
} exception_names[EXC_COUNT] = {
    [EXC_DE] = {"#DE", "divide error", ERROR_NONE},
    [EXC_DB] = {"#DB", "debug", ERROR_NONE},
    [EXC_NMI] = {"NMI", "non-maskable interrupt", ERROR_NONE},
    [EXC_BP] = {"#BP", "breakpoint", ERROR_NONE},
    [EXC_OF] = {"#OF", "overflow", ERROR_NONE},
    [EXC_BR] = {"#BR", "bound range exceeded", ERROR_NONE},
    [EXC_UD] = {"#UD", "invalid opcode", ERROR_NONE},
    [EXC_NM] = {"#NM", "device not available", ERROR_NONE},
    [EXC_DF] = {"#DF", "double fault", ERROR_ZERO},
    [9] = {"#9", "coprocessor segment overrun", ERROR_NONE},
    [EXC_TS] = {"#TS", "invalid TSS", ERROR_SELECTOR},
    [EXC_NP] = {"#NP", "segment not present", ERROR_SELECTOR},
    [EXC_SS] = {"#SS", "stack-segment fault", ERROR_SELECTOR},
    [EXC_GP] = {"#GP", "general protection", ERROR_SELECTOR},
    [EXC_PF] = {"#PF", "page fault", ERROR_PAGE},
    [15] = {"#15", "reserved", ERROR_NONE},
    [EXC_MF] = {"#MF", "x87 floating-point error", ERROR_NONE},
    [EXC_AC] = {"#AC", "alignment check", ERROR_ZERO},
    [EXC_MC] = {"#MC", "machine check", ERROR_NONE},
    [EXC_XM] = {"#XM", "SIMD floating-point error", ERROR_NONE},
    [EXC_VE] = {"#VE", "virtualization exception", ERROR_NONE},
    [EXC_CP] = {"#CP", "control protection", ERROR_CODE},
    [22] = {"#22", "reserved", ERROR_NONE},
    [23] = {"#23", "reserved", ERROR_NONE},
    [24] = {"#24", "reserved", ERROR_NONE},
    [25] = {"#25", "reserved", ERROR_NONE},
    [26] = {"#26", "reserved", ERROR_NONE},
    [27] = {"#27", "reserved", ERROR_NONE},
    [28] = {"#HV", "hypervisor injection", ERROR_NONE},
    [29] = {"#VC", "VMM communication", ERROR_CODE},
    [30] = {"#SX", "security", ERROR_CODE},
    [31] = {"#31", "reserved", ERROR_NONE},
};

const char *exception_mnemonic(unsigned vector)
{
    return vector < EXC_COUNT ? exception_names[vector].mnemonic : "#?";
}

const char *exception_name(unsigned vector)
{
    return vector < EXC_COUNT ? exception_names[vector].name : "not an exception";
}

uint64_t exception_count(unsigned vector, unsigned cpu)
{
    return vector < EXC_COUNT && cpu < MAX_CPUS ? READ_ONCE(exception_counts[cpu][vector]) : 0;
}

// ---- the story ----------------------------------------------------------------------------------

#define PF_PRESENT  BIT(0) // 0: nothing mapped; 1: the mapping forbids it
#define PF_WRITE    BIT(1)
#define PF_USER     BIT(2)
#define PF_RESERVED BIT(3)
#define PF_FETCH    BIT(4)

static const struct bit_name exception_page_bits[] = {
    {PF_PRESENT, "P"},     {PF_WRITE, "W"},  {PF_USER, "U"},
    {PF_RESERVED, "RSVD"}, {PF_FETCH, "I"},  {BIT(5), "PK"},
    {BIT(6), "SS"},        {BIT(15), "SGX"}, {0, NULL},
};

#define SELECTOR_EXTERNAL BIT(0)
#define SELECTOR_IDT      BIT(1)
#define SELECTOR_LDT      BIT(2)

static const struct bit_name exception_selector_bits[] = {
    {SELECTOR_EXTERNAL, "EXT"},
    {SELECTOR_IDT, "IDT"},
    {SELECTOR_LDT, "TI"},
    {0, NULL},
};

static const struct bit_name exception_dr6_bits[] = {
    {BIT(0), "B0"},  {BIT(1), "B1"},  {BIT(2), "B2"},  {BIT(3), "B3"},
    {BIT(13), "BD"}, {BIT(14), "BS"}, {BIT(15), "BT"}, {0, NULL},
};

static const struct bit_name exception_rflags_bits[] = {
    {BIT(0), "CF"},  {BIT(2), "PF"},  {BIT(4), "AF"},  {BIT(6), "ZF"},   {BIT(7), "SF"},
    {BIT(8), "TF"},  {BIT(9), "IF"},  {BIT(10), "DF"}, {BIT(11), "OF"},  {BIT(14), "NT"},
    {BIT(16), "RF"}, {BIT(17), "VM"}, {BIT(18), "AC"}, {BIT(19), "VIF"}, {BIT(20), "VIP"},
    {BIT(21), "ID"}, {0, NULL},
};
#define RFLAGS_RESERVED BIT(1) // always one, and no news
#define RFLAGS_TF       BIT(8)

#define DR6_NEWS 0xe00f // B0-B3, BD, BS, BT; the others are fixed

static void exception_show_page(struct text *t, const struct exception_record *r)
{
    uint64_t error = r->frame.error;
    const char *guard = exception_guard_name ? exception_guard_name(r->cr2) : NULL;

    text_printf(t, ": %s %s 0x%016lx, ", error & PF_USER ? "ring 3" : "ring 0",
                error & PF_FETCH   ? "ran"
                : error & PF_WRITE ? "wrote to"
                                   : "read",
                r->cr2);
    if (guard) {
        text_puts(t, guard);
    } else if ((error & PF_PRESENT) == 0) {
        text_puts(t, "where nothing is mapped");
    } else if (error & PF_RESERVED) {
        text_puts(t, "whose page table entry has reserved bits set");
    } else if (error & PF_FETCH) {
        text_puts(t, "which may not be executed");
    } else if (error & PF_WRITE) {
        text_puts(t, "which is read-only");
    } else {
        text_puts(t, "which ring 0 and 3 do not share");
    }
}

static void exception_show_selector(struct text *t, uint64_t error)
{
    if (error & SELECTOR_IDT) {
        text_printf(t, ": gate of vector %lu", error >> 3 & 0xff);
    } else if ((error & ~(uint64_t)SELECTOR_EXTERNAL) != 0) {
        text_printf(t, ": selector %#lx of the %s", error & 0xfff8,
                    error & SELECTOR_LDT ? "LDT" : "GDT");
    }
    if (error & SELECTOR_EXTERNAL) {
        text_puts(t, ", while an external event was delivered");
    }
}

static void exception_show_headline(struct text *t, const struct exception_record *r)
{
    uint64_t vector = r->frame.vector;
    uint32_t error = (uint32_t)r->frame.error;

    text_printf(t, "%s %s, vector %lu", exception_mnemonic((unsigned)vector),
                exception_name((unsigned)vector), vector);
    switch (vector < EXC_COUNT ? exception_names[vector].error : ERROR_NONE) {
    case ERROR_NONE:
        break;
    case ERROR_ZERO:
    case ERROR_CODE:
        text_printf(t, ", error code 0x%x", error);
        break;
    case ERROR_SELECTOR:
        text_puts(t, ", error code ");
        text_bits(t, error, exception_selector_bits);
        exception_show_selector(t, error);
        break;
    case ERROR_PAGE:
        text_puts(t, ", error code ");
        text_bits(t, error, exception_page_bits);
        exception_show_page(t, r);
        break;
    }
    if (vector == EXC_DB) {
        text_puts(t, ", DR6 ");
        text_bits(t, r->dr6 & DR6_NEWS, exception_dr6_bits);
    }
    // A double fault tells no address, but a stack that ran into its guard page leaves it in CR2.
    const char *guard =
        vector == EXC_DF && exception_guard_name ? exception_guard_name(r->cr2) : NULL;
    if (guard) {
        text_printf(t, ": stack overflow, CR2 0x%016lx is in the %s", r->cr2, guard);
    }
    text_putc(t, '\n');
}

void exception_show(struct text *t, const struct exception_record *r)
{
    const struct frame *f = &r->frame;

    exception_show_headline(t, r);
    text_printf(t, "rip 0x%016lx  ", f->rip);
    if (kallsyms_lookup(f->rip, NULL)) {
        text_symbol(t, f->rip);
    } else {
        text_puts(t, "not in the kernel");
    }
    text_printf(t, "\nrsp 0x%016lx  cs %#lx  ss %#lx  rflags ", f->rsp, f->cs, f->ss);
    text_bits(t, (uint32_t)f->rflags & ~RFLAGS_RESERVED, exception_rflags_bits);
    text_printf(t, "\nrax 0x%016lx  rbx 0x%016lx  rcx 0x%016lx\n", f->rax, f->rbx, f->rcx);
    text_printf(t, "rdx 0x%016lx  rsi 0x%016lx  rdi 0x%016lx\n", f->rdx, f->rsi, f->rdi);
    text_printf(t, "rbp 0x%016lx  r8  0x%016lx  r9  0x%016lx\n", f->rbp, f->r8, f->r9);
    text_printf(t, "r10 0x%016lx  r11 0x%016lx  r12 0x%016lx\n", f->r10, f->r11, f->r12);
    text_printf(t, "r13 0x%016lx  r14 0x%016lx  r15 0x%016lx\n", f->r13, f->r14, f->r15);
    text_printf(t, "cr0 %#lx  cr2 0x%016lx  cr3 %#lx  cr4 %#lx\n", read_cr0(), r->cr2, read_cr3(),
                read_cr4());
}

// ---- faults that are allowed --------------------------------------------------------------------

struct exception_fixup {
    uint64_t fault_rip, resume_rip;
};
LINKER_SET(exception_fixup, exception_fixup);

static bool exception_fixup_instruction(struct frame *frame)
{
    const struct exception_fixup *fixup;

    set_for_each (fixup, exception_fixup) {
        if (fixup->fault_rip == frame->rip) {
            frame->rip = fixup->resume_rip;
            return true;
        }
    }
    return false;
}

int copy_nofault(void *to, const void *from, size_t size); // catch.S

int copy_from_kernel_nofault(void *to, const void *from, size_t size)
{
    return copy_nofault(to, from, size);
}

// ---- faults that were expected ------------------------------------------------------------------

// One call of exception_catch under way. It lives on its thread's stack, and the thread is the key:
// the thread may sleep and move to another CPU meanwhile.
struct exception_context {
    struct exception_context *next;  // L by exception_lock: older ones
    struct thread *thread;           // I
    struct exception_record *record; // I: may be NULL
    uintptr_t resume_rsp;            // I
    uint32_t preempt_off;            // I: as it was
    uint16_t bh_disabled;            // I: likewise
};

static DEFINE_SPINLOCK(exception_lock);
static struct exception_context *exception_contexts; // L by exception_lock

int exception_call(void (*fn)(void *arg), void *arg, uintptr_t *resume_rsp); // catch.S
extern const char exception_resume[];

#define CATCHABLE                                                                        \
    (BIT(EXC_DE) | BIT(EXC_DB) | BIT(EXC_BP) | BIT(EXC_OF) | BIT(EXC_BR) | BIT(EXC_UD) | \
     BIT(EXC_NM) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | \
     BIT(EXC_MF) | BIT(EXC_AC) | BIT(EXC_XM))

int exception_catch(void (*fn)(void *arg), void *arg, struct exception_record *record)
{
    struct exception_context context = {
        .thread = cpu_current(),
        .record = record,
        .preempt_off = cpu_field(preempt_off),
        .bh_disabled = cpu_field(bh_disabled),
    };
    unsigned long flags;

    spin_lock_irqsave(&exception_lock, flags);
    context.next = exception_contexts;
    exception_contexts = &context;
    spin_unlock_irqrestore(&exception_lock, flags);

    int vector = exception_call(fn, arg, &context.resume_rsp);

    spin_lock_irqsave(&exception_lock, flags);
    struct exception_context **link = &exception_contexts;
    while (*link != &context) {
        link = &(*link)->next;
    }
    *link = context.next;
    spin_unlock_irqrestore(&exception_lock, flags);
    return vector;
}

static bool exception_deliver(const struct exception_record *record, struct frame *frame)
{
    struct cpu *cpu = cpu_self();
    struct exception_context *context;

    if ((BIT(frame->vector) & CATCHABLE) == 0 || cpu->irq_depth != 0 || cpu->nmi_depth != 0 ||
        cpu->serving_softirq || cpu->in_panic || spin_is_held(&exception_lock)) {
        return false;
    }
    spin_lock(&exception_lock);
    for (context = exception_contexts; context; context = context->next) {
        if (context->thread == cpu->thread) {
            break; // the innermost: newer ones stand first
        }
    }
    spin_unlock(&exception_lock);
    if (!context) {
        return false;
    }
    if (context->record) {
        *context->record = *record;
        context->record->trace_count =
            backtrace_collect(context->record->trace, EXC_TRACE, frame->rbp, frame->rip);
    }
    cpu->preempt_off = context->preempt_off;
    cpu->bh_disabled = context->bh_disabled;
    frame->rax = frame->vector;
    frame->rip = (uintptr_t)exception_resume;
    frame->rsp = context->resume_rsp;
    frame->rflags = RFLAGS_RESERVED; // interrupts off: exception_resume brings the flags back
    return true;
}

// ---- the entry ----------------------------------------------------------------------------------

static void exception_handle_nmi(struct frame *frame)
{
    if (!exception_nmi || !exception_nmi(frame)) {
        pr_ratelimited(LOG_WARNING, "NMI on CPU %u that nobody claims, at %#lx", cpu_id(),
                       frame->rip);
    }
}

// NMI and #MC: nothing that they interrupted may be waited for. Nothing in here may fault either:
// the IRET of that fault would let the next NMI in, onto the same stack (SDM vol. 3, 6.7.1).
static void exception_unmaskable(struct frame *frame)
{
    struct cpu *cpu = cpu_self();

    cpu->nmi_depth++;
    if (frame->vector == EXC_NMI) {
        exception_handle_nmi(frame);
    } else {
        machine_check(frame);
    }
    cpu->nmi_depth--;
}

static uint64_t exception_take_dr6(void)
{
    uint64_t dr6;

    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    // The CPU sets these bits and never clears them.
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ul));
    return dr6;
}

static __noreturn void exception_fatal(const struct exception_record *record)
{
    char report[1024];
    struct text t = TEXT_INIT(report);

    exception_show(&t, record);
    if (lapic_isr_test((uint8_t)record->frame.vector)) {
        text_puts(&t, "no exception, but a message with its vector, which a device has sent: it is "
                      "in service at the local APIC\n");
    }
    panic_frame(&record->frame, "%s", report);
}

// A trap that nobody set: a stray INT3, a debug register left behind. The instruction is done.
static void exception_stray_trap(const struct exception_record *record, struct frame *frame)
{
    char line[200];
    struct text t = TEXT_INIT(line);

    exception_show_headline(&t, record);
    text_symbol(&t, frame->rip);
    line[strcspn(line, "\n")] = ' ';
    pr_ratelimited(LOG_ERR, "nobody expected a trap: %s", line);
    frame->rflags &= ~(uint64_t)RFLAGS_TF;
}

void exception(struct frame *frame)
{
    struct exception_record record;

    this_cpu(exception_counts)[frame->vector]++;
    if (frame->vector == EXC_NMI || frame->vector == EXC_MC) {
        exception_unmaskable(frame);
        return;
    }

    record.cr2 = read_cr2();
    record.dr6 = frame->vector == EXC_DB ? exception_take_dr6() : 0;
    record.frame = *frame;
    trace(TRACE_EXCEPTION, (uint32_t)frame->vector,
          frame->vector == EXC_PF ? record.cr2 : frame->rip);

    if (frame_is_user(frame)) {
        if (!exception_user || !exception_user(&record, frame)) {
            exception_fatal(&record);
        }
        return;
    }
    if (frame->vector == EXC_PF && exception_fixup_page &&
        exception_fixup_page(record.cr2, frame)) {
        return;
    }
    if (((BIT(EXC_BP) | BIT(EXC_DB) | BIT(EXC_OF)) & BIT(frame->vector)) && exception_trap &&
        exception_trap(&record, frame)) {
        return;
    }
    if (exception_fixup_instruction(frame) || exception_deliver(&record, frame)) {
        return;
    }
    if (frame->vector == EXC_BP || frame->vector == EXC_DB) {
        exception_stray_trap(&record, frame);
        return;
    }
    exception_fatal(&record);
}

// ---- /proc/exceptions ---------------------------------------------------------------------------

// Laid out as /proc/interrupts is, with one row for each vector that has a meaning.
static void exceptions_show(struct text *t, unsigned long index __unused)
{
    text_puts(t, "    ");
    for_each_online_cpu (cpu) {
        text_printf(t, "%10s%u", "CPU", cpu);
    }
    text_putc(t, '\n');
    for (unsigned vector = 0; vector < EXC_COUNT; vector++) {
        if (strcmp(exception_names[vector].name, "reserved") == 0) {
            continue;
        }
        text_printf(t, "%3u:", vector);
        for_each_online_cpu (cpu) {
            text_printf(t, " %10lu", exception_count(vector, cpu));
        }
        text_printf(t, "  %s %s\n", exception_names[vector].mnemonic, exception_names[vector].name);
    }
}

PROC_FILE("exceptions", exceptions_show);
