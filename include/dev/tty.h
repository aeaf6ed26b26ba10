// The console as a class: bytes come in from keyboards and serial lines, text goes out to every one of them.
//
//   uart irq / keyboard irq ── tty_receive ──> input ring ── tty_read ──> shell
//   shell, log ── tty_write ──> every tty_output
#pragma once

#include <lib/list.h>
#include <lib/types.h>

// A place that shows text. write may not sleep unless `may_sleep` says that the caller is a thread; it returns how much it took. write_polled
// works without interrupts and locks: panic.
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
// ^C arrives here before the ring: whom to call. Tied by the shell. Context: that of tty_receive.
extern void (*tty_interrupt_hook)(void);

// Sleeps for at least one byte; -EINTR after thread_interrupt; 0 after timeout_ms (0: no timeout). Context: thread.
long tty_read(char *to, size_t size, uint32_t timeout_ms);
// Writes all of it, "\n" as CR LF. Context: thread.
void tty_write(const char *data, size_t size);
void tty_write_polled(const char *data, size_t size);
void tty_flush(void); // waits until the outputs have sent everything, bounded

// Log lines go out between whole lines: around them `before` and `after` (tied by the line editor) take its line away and redraw it.
extern void (*tty_log_before)(void), (*tty_log_after)(void);
void tty_start_log_thread(void);
uint64_t tty_overruns(void);

// No escape sequences: boot option plain, or TERM=dumb.
extern bool tty_plain;
