// The end, told as well as possible: which CPU, which thread, registers, a symbolised backtrace,
// then halt, reboot or exit by the boot option panic=. For our own mistakes only: what a device or
// a person does is an error, not a panic. Context: any.
#pragma once

#include <lib/types.h>

struct frame;

__noreturn void panic(const char *format, ...) __printf(1, 2);
// The same for an exception: the backtrace starts where it struck. The text may have lines
// (exception_show).
__noreturn void panic_frame(const struct frame *frame, const char *format, ...) __printf(2, 3);

// Notes that something was reported: counts it, and is the end where that was asked for (boot
// option panic_on_warn, /proc/sys/kernel/panic_on_warn). `what` was reported, in a word or two.
void warn_noted(const char *what);
// One warning line, as a function; for those who print by a pointer.
void pr_warn_line(const char *format, ...) __printf(1, 2);

// A warning with a backtrace; the kernel goes on. Returns the condition.
void warn_at(const char *file, int line, const char *what);
extern uint32_t warn_count; // A: how many there were, for tests: a clean run has none
#define WARN_ON(condition)                           \
    ({                                               \
        bool warn_ = (condition);                    \
        if (unlikely(warn_)) {                       \
            warn_at(__FILE__, __LINE__, #condition); \
        }                                            \
        warn_;                                       \
    })

#define assert(condition)                                                           \
    do {                                                                            \
        if (unlikely(!(condition))) {                                               \
            panic("assertion failed at %s:%d: %s", __FILE__, __LINE__, #condition); \
        }                                                                           \
    } while (0)

// The way back, one log line for each function with its symbol: from an exception's frame, or
// (NULL) from the caller. Bounded, and reads only addresses on a known stack. collect does the
// walking alone.
void backtrace_print(const struct frame *frame);
unsigned backtrace_collect(uintptr_t *addresses, unsigned max, uintptr_t rbp, uintptr_t rip);

// Looks for panic=exit in a command line that nobody has parsed yet, so that a panic before
// boot_options_parse() ends as the options ask. Call first in kernel_main.
void panic_peek(const char *cmdline);

// Tied in kernel_main; each may be NULL early. Stop the other CPUs; write log lines out without
// interrupts; describe the running thread; reset the machine (for panic=reboot; NULL: by port
// 0xcf9).
extern void (*panic_stop_others)(void);
extern void (*panic_flush)(void);
extern const char *(*panic_thread_name)(void);
extern void (*panic_reboot)(void);
// True when [address, address + size) lies on a mapped kernel stack: the guard of the backtrace.
// NULL: only the current page's.
extern bool (*panic_is_stack)(uintptr_t address, size_t size);

// Exit codes that the host sees through isa-debug-exit are (code << 1) | 1; the table is in
// README.md.
enum exit_code {
    EXIT_OK = 0x10,          // `exit 0`: 33 on the host
    EXIT_PANIC = 0x20,       // panic=exit
    EXIT_EARLY_PANIC = 0x21, // before boot options were read
};
// Leaves the emulator through port 0xf4 if the device is there; returns otherwise.
void debug_exit(uint8_t code);
