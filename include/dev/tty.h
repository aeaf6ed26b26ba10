// The console as a class: bytes come in from keyboards and serial lines, text goes out to every one of them.
//
//   uart irq / keyboard irq ── tty_receive ──> input ring ── tty_read ──> shell
//   shell, log ── tty_write ──> every tty_output
#pragma once

#include <lib/list.h>
#include <lib/types.h>

// A place that shows text. write may not sleep unless `may_sleep` says that the caller is a thread; it returns how much it took. write_polled
// works without interrupts and locks: panic. Both get "\n" as CR LF already.
struct tty_output {
    const char *name;
    size_t (*write)(struct tty_output *output, const char *data, size_t size);
    void (*drain)(
        struct tty_output
            *output); // waits (bounded) until there is room; thread; NULL: always takes all
    void (*write_polled)(struct tty_output *output, const char *data, size_t size);
    bool ansi; // understands cursor movement
    struct list_head link;
};
void tty_add_output(struct tty_output *output);

void tty_init(void);
// From a driver, any context. Bytes that do not fit are counted (tty_overruns) and said once.
void tty_receive(const char *data, size_t size);
// ^C throws away what was typed ahead and asks here. True: it stopped something in the foreground; false: it goes into the ring
// like any byte, for the line editor. Tied by the shell. Context: that of tty_receive, under no lock.
extern bool (*tty_interrupt_hook)(void);

// Sleeps for at least one byte; -EINTR after thread_interrupt; 0 after timeout_ms (0: no timeout). Context: thread.
long tty_read(char *to, size_t size, uint32_t timeout_ms);
// Writes all of it, "\n" as CR LF. Context: thread.
void tty_write(const char *data, size_t size);
void tty_write_polled(const char *data, size_t size);
void tty_flush(void); // waits until the outputs have sent everything, bounded

// Log lines go out between whole lines: around them `before` and `after` (tied by the line editor) take its line away and redraw it.
extern void (*tty_log_before)(void), (*tty_log_after)(void);
// From here on the console follows the log by a thread. Before, kernel_main's log_sink writes lines out by polling; the thread begins at
// `sequence`, the first line that was not written so. Ties log_sink and panic_flush's part (tty_log_flush_polled). Context: thread.
void tty_start_log_thread(uint64_t sequence);
// For panic_flush: what the log holds and no output has shown yet, by polling. Context: any, the other CPUs stopped.
void tty_log_flush_polled(void);
uint64_t tty_overruns(void);

// No escape sequences: boot option plain, or TERM=dumb.
extern bool tty_plain;
