// Is the interrupt hardware programmed as the kernel means it? For `irq check` and `idt check`.
#pragma once

#include <contract/command.h>
#include <lib/types.h>

// Compares every redirection entry and every message with the kernel's own map, and prints one line
// for each that differs. How many do. Context: thread.
unsigned irq_check_hardware(struct shell *sh, unsigned *wires, unsigned *messages);
int irq_check(struct shell *sh); // the command's part: the same and a sum; its exit status
