// A mistake made on purpose, to see what catches it: `break NAME [ARGUMENT]` on the console. The
// record stands at the foot of the file that makes the mistake; the kernel's own code is never bent
// for it: `run` calls ordinary functions, wrongly.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

struct break_case {
    const char *name;     // "sleep-in-isr"
    const char *argument; // "MS [50]": what it is, its default in brackets; NULL: it takes none
    const char *help;     // what is done wrong, in one line
    const char *report;   // text that the log then holds: what a test looks for
    bool survives;        // the kernel goes on; otherwise it ends in a panic
    // Makes the mistake. Context: a thread of its own, interrupts on. The argument is "" when none
    // was given. 0, or -errno when it could not be done here (-EOPNOTSUPP: it takes another CPU).
    int (*run)(const char *argument);
};

#define BREAK(case_name, argument_text, help_text, report_text, goes_on, function)               \
    LINKER_RECORD(break_case, break_case, break_case_##function) = {.name = (case_name),         \
                                                                    .argument = (argument_text), \
                                                                    .help = (help_text),         \
                                                                    .report = (report_text),     \
                                                                    .survives = (goes_on),       \
                                                                    .run = (function)}

// The usual argument: a number up to `most`, `fallback` when none was given. 0, -EINVAL, -ERANGE.
int break_number(const char *argument, uint32_t fallback, uint32_t most, uint32_t *value);

// Runs fn in a hard interrupt on this CPU, and comes back when it is over. Context: thread,
// interrupts on.
void break_in_interrupt(void (*fn)(void));
