// The console as a class: bytes come in from keyboards and serial lines, text goes out to every one
// of them.
//
//   uart irq / keyboard irq ── tty_receive ──> input ring ── tty_read ──> shell
//   shell, log ── tty_write ──> every tty_output
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/list.h>
#include <lib/types.h>

// A place that shows text; it understands the few ANSI sequences that kernel/shell/line.c writes.
// All three get "\n" as CR LF already.
struct tty_output {
    const char *name;
    // Takes what it has room for and returns how much that was. Context: thread, one at a time.
    size_t (*write)(struct tty_output *output, const char *data, size_t size);
    // Waits, bounded, until there is room; false: it takes nothing at the moment. NULL: there is
    // always room. Context: thread.
    bool (*wait_room)(struct tty_output *output);
    // Waits, bounded, until everything is out. NULL: it is at once. Context: thread.
    void (*flush)(struct tty_output *output);
    // Without interrupts and locks: panic.
    void (*write_polled)(struct tty_output *output, const char *data, size_t size);
    uint64_t dropped;      // L: bytes that it did not take in time
    struct list_head link; // L
};
void tty_add_output(struct tty_output *output); // Context: any

void tty_init(void); // Context: boot
// From a driver. Bytes that do not fit are counted (tty_overruns) and said, rate-limited. Context:
// any but NMI.
void tty_receive(const char *data, size_t size);
// ^C throws away what was typed ahead and asks here. True: it stopped something in the foreground;
// false: it goes into the ring like any byte, for the line editor. Tied by the shell. Context: that
// of tty_receive, under no lock.
extern bool (*tty_interrupt_hook)(void);
// True when a ^C waits in the ring; it is taken out, with what was typed before it. By the shell,
// when a line begins to run. Context: any but NMI.
bool tty_take_interrupt(void);

// Sleeps for at least one byte; -EINTR after thread_interrupt; 0 after timeout_ms (0: no timeout).
// Context: thread.
long tty_read(char *to, size_t size, uint32_t timeout_ms);
// Writes all of it, "\n" as CR LF. Context: thread.
void tty_write(const char *data, size_t size);
// Waits until the outputs have sent everything, bounded. Context: thread.
void tty_flush(void);
// Without locks: for panics. Context: any.
void tty_write_polled(const char *data, size_t size);
bool tty_at_line_start(void); // the last byte written was a newline
uint64_t tty_overruns(void);  // input bytes that found the ring full

// The log on the console. Before there are threads each line goes out at once through `write` (a
// serial port, polled), beginning with what the log holds already. Ties log_sink. Context: boot,
// once.
void tty_log_early(void (*write)(const char *data, size_t size));
// From here on a thread follows the log and writes its lines between whole lines of output; around
// them `before` and `after` (tied by the line editor) take the line that is being typed away and
// redraw it. Ties log_sink. Context: thread, once.
void tty_start_log_thread(void);
// Waits, at most a fifth of a second, until what was logged so far is on the console: before the
// first prompt. Context: thread.
void tty_log_settle(void);
extern void (*tty_log_before)(void), (*tty_log_after)(void);
// For panic_flush: what the log holds and no output has shown yet, by polling. Context: any, the
// other CPUs stopped.
void tty_log_flush_polled(void);

// No escape sequences: boot option plain, or TERM=dumb.
extern bool tty_plain;
