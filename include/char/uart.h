// Serial ports: COM1 is the console, COM2 carries reports for scripts. From the first instructions
// on COM1 can be written by polling; uart_init() goes over to interrupts.
#pragma once

#include <lib/types.h>

enum uart_port { UART_COM1, UART_COM2, UART_COUNT };

// Finds COM1 and sets it to 115200 8N1. Needs nothing: no memory, no interrupts, no clock. Context:
// boot.
void uart_early_init(void);

// Text to COM1 by polling, "\n" as CR LF. Each byte waits for a bounded number of looks at the
// port; one that takes nothing is given up. Context: any, also panic.
void uart_write_polled(const char *data, size_t size);

// Interrupts for COM1 and COM2, as far as they are there: COM1 becomes an output of the console and
// feeds its input. Context: thread, after route_init() and tty_init().
void uart_init(void);

bool uart_present(enum uart_port port);

// Text to a port, "\n" as CR LF; sleeps for room, bounded. 0, -ENODEV, -EIO (the port takes
// nothing). Context: thread.
int uart_write(enum uart_port port, const char *data, size_t size);
// Waits, bounded, until everything has left the port. Context: thread.
void uart_flush(enum uart_port port);
