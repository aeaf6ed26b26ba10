// The end, told as well as possible; and the backtraces that warnings share with it.
//
// Whatever brought us here, less and less may be trusted: the order below is from sure to unsure.
//
//   1. interrupts off; one CPU reports, a second one that panics too waits for ever
//   2. stop the others, so that they neither overwrite the evidence nor the screen
//   3. message, CPU, thread; then the backtrace, which reads memory that may be wrong
//   4. the end that the boot option panic= asked for
//
// A panic inside of the report goes straight to 4 with one line on COM1, written by hand.
//
// The backtrace follows saved frame pointers. Each function begins with "push rbp; mov rbp, rsp":
//
//   rbp --> | caller's rbp | return address |      and so on, until rbp is 0 or leaves the stacks
//
// entry.S leaves the same link below each struct frame, so the way goes on through interrupts. It
// is bounded, and each address is checked before it is read.
//
// Context: any, NMI included.
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/io.h>
#include <core/kallsyms.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <x86/frame.h>
#include <x86/pte.h>

enum {
    BACKTRACE_MAX_LINES = 32,
    BACKTRACE_MAX_STEPS = 4096,
    PANIC_TEXT_SIZE = 2048,
    PANIC_MAX_SECONDS = 3600,
};

enum panic_mode { PANIC_HALT, PANIC_REBOOT, PANIC_EXIT };

void (*panic_stop_others)(void);
void (*panic_flush)(void);
const char *(*panic_thread_name)(void);
void (*panic_reboot)(void);
bool (*panic_is_stack)(uintptr_t address, size_t size);
uint32_t warn_count;

static enum panic_mode panic_mode; // I
static uint32_t panic_seconds;     // I: how long to wait before a reboot
static bool panic_options_read;    // I: panic= was parsed, or peeked at
static uint32_t panic_owner;       // A: CPU + 1 that reports, 0 none
static bool panic_on_warn;         // A: a warning is the end
static char panic_text[PANIC_TEXT_SIZE];

extern const char boot_stack_bottom[], boot_stack_top[]; // boot/start.S

// ---- the last way out ---------------------------------------------------------------------------

// Straight to COM1, when the log cannot be trusted or does not reach the console yet.
static void panic_com1(const char *s)
{
    enum { COM1 = 0x3f8, COM1_STATUS = COM1 + 5, EMPTY = 0x20, TRIES = 100000 };

    for (; *s != '\0'; s++) {
        for (unsigned n = 0; n < TRIES && (inb(COM1_STATUS) & EMPTY) == 0; n++) {
            cpu_relax();
        }
        outb((uint8_t)*s, COM1);
    }
}

void debug_exit(uint8_t code)
{
    outb(code, 0xf4); // QEMU's isa-debug-exit; on a PC without one nobody listens there
}

// Reset control register of every chipset since PIIX (Intel ICH9 data sheet, 13.7.5): full reset.
static void panic_reset(void)
{
    if (panic_reboot) {
        panic_reboot();
    }
    outb(0x02, 0xcf9);
    outb(0x06, 0xcf9);
}

static __noreturn void panic_end(void)
{
    if (panic_mode == PANIC_EXIT) {
        debug_exit(panic_options_read ? EXIT_PANIC : EXIT_EARLY_PANIC);
    }
    if (panic_mode == PANIC_REBOOT) {
        for (uint32_t ms = 0; ms < panic_seconds * 1000; ms++) {
            udelay(1000);
        }
        panic_reset();
    }
    cpu_stop();
}

// ---- the report ---------------------------------------------------------------------------------

static void __printf(1, 2) panic_line(const char *format, ...)
{
    char line[240];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    printk(LOG_EMERG, "%s", line);
    if (!log_sink) {
        panic_com1(line);
        panic_com1("\r\n");
    }
}

// The message may have lines; a log line may not.
static void panic_print_text(char *text)
{
    const char *prefix = "panic: ";

    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        bool last = text[length] == '\0';
        text[length] = '\0';
        panic_line("%s%s", prefix, text);
        prefix = "  ";
        text += last ? length : length + 1;
    }
}

static bool panic_may_read(uintptr_t address, size_t size)
{
    if (address < PHYS_BASE || !IS_ALIGNED(address, 8)) {
        return false;
    }
    if (panic_is_stack) {
        return panic_is_stack(address, size);
    }
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return (address >= (uintptr_t)boot_stack_bottom &&
            address + size <= (uintptr_t)boot_stack_top) ||
           ALIGN_DOWN(address, PAGE_SIZE) == ALIGN_DOWN(here, PAGE_SIZE);
}

// One step outwards: the return address, and *rbp becomes the caller's. 0 where the chain ends.
static uintptr_t backtrace_next(uintptr_t *rbp)
{
    if (!panic_may_read(*rbp, 2 * sizeof(uintptr_t))) {
        return 0;
    }
    const uintptr_t *link = (const uintptr_t *)*rbp;
    *rbp = link[0];
    return link[1];
}

unsigned backtrace_collect(uintptr_t *addresses, unsigned max, uintptr_t rbp, uintptr_t rip)
{
    unsigned count = 0;
    uintptr_t next = rip != 0 ? rip : backtrace_next(&rbp);

    for (; next != 0 && count < max; next = backtrace_next(&rbp)) {
        addresses[count++] = next;
    }
    return count;
}

typedef void backtrace_print_fn(const char *format, ...) __printf(1, 2);

// A return address belongs to the call before it, which may be the last thing in its function.
static void backtrace_print_step(backtrace_print_fn *print, uintptr_t address, bool is_return,
                                 unsigned repeats)
{
    char line[160];
    struct text t = TEXT_INIT(line);
    uintptr_t offset;
    const char *name = kallsyms_lookup(address - is_return, &offset);

    text_printf(&t, "    0x%016lx", address);
    if (name) {
        text_printf(&t, "  %s+0x%lx", name, offset + is_return);
    }
    if (repeats > 1) {
        text_printf(&t, "  %u times", repeats);
    }
    print("%s", line);
    // entry.S calls the C code from here: what follows is what was interrupted.
    if (name && strcmp(name, "isr_call") == 0) {
        print("    -- interrupted:");
    }
}

// From an exception's rip and rbp, or (rip 0) from a function's own frame pointer: its caller comes
// first then. A recursion is one line.
static void backtrace_print_from(backtrace_print_fn *print, uintptr_t rip, uintptr_t rbp)
{
    uintptr_t address = rip != 0 ? rip : backtrace_next(&rbp);
    bool is_return = rip == 0;
    unsigned lines = 0, steps = 0;

    print("  backtrace:%s", address == 0 ? " none, this is not one of our stacks" : "");
    while (address != 0 && lines++ < BACKTRACE_MAX_LINES && steps < BACKTRACE_MAX_STEPS) {
        uintptr_t next = backtrace_next(&rbp);
        unsigned repeats = 1;
        for (; next == address && steps < BACKTRACE_MAX_STEPS; repeats++, steps++) {
            next = backtrace_next(&rbp);
        }
        backtrace_print_step(print, address, is_return, repeats);
        address = next;
        is_return = true;
        steps++;
    }
    if (address != 0) {
        print("    ... and more");
    }
}

void pr_warn_line(const char *format, ...)
{
    char line[240];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    pr_warn("%s", line);
}

void backtrace_print(const struct frame *frame)
{
    backtrace_print_from(pr_warn_line, frame ? frame->rip : 0,
                         frame ? frame->rbp : (uintptr_t)__builtin_frame_address(0));
}

// Panicking while the report is made: say once more what it was to be about, and end. What was
// logged is still written out, unless that is what fails.
static __noreturn void panic_again(void)
{
    static bool flushed;

    if (panic_flush && !flushed) {
        flushed = true;
        panic_flush();
    }
    panic_text[strcspn(panic_text, "\n")] = '\0';
    panic_com1("panic: another one, inside of the report of: ");
    panic_com1(panic_text);
    panic_com1("\r\n");
    panic_end();
}

// One CPU tells its story; whoever comes second waits for ever.
static void panic_begin(void)
{
    local_irq_disable();

    uint32_t me = cpu_id() + 1, owner = 0;
    if (!__atomic_compare_exchange_n(&panic_owner, &owner, me, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        if (owner == me) {
            panic_again();
        }
        cpu_stop();
    }
    cpu_self()->in_panic = true;
    lockdep_look_away();
}

// panic_text holds the message.
static __noreturn void panic_report(uintptr_t rip, uintptr_t rbp)
{
    if (panic_stop_others) {
        panic_stop_others();
    }
    panic_print_text(panic_text);

    uint64_t ns = clock_ns();
    const char *thread = panic_thread_name ? panic_thread_name() : NULL;
    panic_line("  CPU %u, thread %s, %lu.%06lu s after start", cpu_id(),
               thread ? thread : "(none yet)", ns / 1000000000, ns / 1000 % 1000000);
    backtrace_print_from(panic_line, rip, rbp);
    lockdep_print_held(panic_line);
    for_each_online_cpu (cpu) {
        if (cpu != cpu_id()) {
            lockdep_print_cpu(cpu, panic_line);
        }
    }
    panic_line("panic: %s", panic_mode == PANIC_EXIT     ? "leaving the emulator (panic=exit)"
                            : panic_mode == PANIC_REBOOT ? "rebooting (panic=)"
                                                         : "halted");
    if (panic_flush) {
        panic_flush();
    }
    panic_end();
}

void panic(const char *format, ...)
{
    va_list args;

    panic_begin();
    va_start(args, format);
    vsnprintf(panic_text, sizeof(panic_text), format, args);
    va_end(args);
    panic_report(0, (uintptr_t)__builtin_frame_address(0));
}

void panic_frame(const struct frame *frame, const char *format, ...)
{
    va_list args;

    panic_begin();
    va_start(args, format);
    vsnprintf(panic_text, sizeof(panic_text), format, args);
    va_end(args);
    panic_report(frame->rip, frame->rbp);
}

void warn_at(const char *file, int line, const char *what)
{
    pr_warn("WARN at %s:%d: %s", file, line, what);
    backtrace_print(NULL);
    warn_noted(what);
}

void warn_noted(const char *what)
{
    __atomic_fetch_add(&warn_count, 1, __ATOMIC_RELAXED);
    if (panic_on_warn) {
        panic_on_warn = false; // one is enough
        panic("panic_on_warn: %s", what);
    }
}

// ---- the option ---------------------------------------------------------------------------------

static int panic_set(const char *value)
{
    uint32_t seconds;

    if (strcmp(value, "exit") == 0) {
        panic_mode = PANIC_EXIT;
    } else if (strcmp(value, "halt") == 0 || strcmp(value, "0") == 0) {
        panic_mode = PANIC_HALT;
    } else if (strcmp(value, "reboot") == 0) {
        panic_mode = PANIC_REBOOT;
        panic_seconds = 0;
    } else if (kstrtou32(value, 10, &seconds) == 0 && seconds <= PANIC_MAX_SECONDS) {
        panic_mode = PANIC_REBOOT;
        panic_seconds = seconds;
    } else {
        return -EINVAL;
    }
    panic_options_read = true;
    return 0;
}

void panic_peek(const char *cmdline)
{
    const char *at = strstr(cmdline, "panic=exit");

    if (at && (at == cmdline || at[-1] == ' ')) {
        panic_mode = PANIC_EXIT;
    }
}

BOOT_OPTION("panic", panic_set,
            "what follows a panic: halt, reboot, exit (the emulator), or seconds until a reboot");

static int panic_on_warn_set(const char *value)
{
    if (strcmp(value, "") != 0 && strcmp(value, "0") != 0 && strcmp(value, "1") != 0) {
        return -EINVAL;
    }
    panic_on_warn = strcmp(value, "0") != 0;
    return 0;
}

static int panic_on_warn_write(const char *line, unsigned long index __unused)
{
    return line[0] == '\0' ? -EINVAL : panic_on_warn_set(line);
}

static void panic_on_warn_show(struct text *t, unsigned long index __unused)
{
    text_printf(t, "%d\n", panic_on_warn);
}

BOOT_OPTION("panic_on_warn", panic_on_warn_set, "panic_on_warn: the first warning is the end");
PROC_FILE_RW("sys/kernel/panic_on_warn", panic_on_warn_show, panic_on_warn_write);
