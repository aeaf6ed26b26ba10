// A lab: an experiment that the running kernel makes on itself and explains. Declared by the file
// that makes it, found by the console command `lab [NAME [ARGUMENT...]]`. It prints what it
// measured in tables of one form, beside what the books say.
//
//     static int lab_wakeup(struct shell *sh, int argc, char **argv) { ... }
//     LAB("wakeup", lab_wakeup, "[COUNT]", "waking a thread: on this CPU, on another");
//
// Context of `run`: as a command's (contract/command.h): a thread of its own, may sleep, should ask
// shell_interrupted() between measurements; its result is the exit status. argv[0] is the lab's
// name.
#pragma once

#include <contract/command.h>
#include <contract/section.h>
#include <lib/samples.h>
#include <lib/types.h>

struct lab {
    const char *name;
    const char *usage; // its arguments: "[COUNT]", or ""
    const char *help;  // one line
    int (*run)(struct shell *sh, int argc, char **argv);
};
#define LAB(lab_name, function, usage_text, help_text) \
    LINKER_RECORD(lab, lab, lab_##function) = {        \
        .name = (lab_name), .usage = (usage_text), .help = (help_text), .run = (function)}

// A table: its columns end with a NULL title. A width below 0 is a column of words, set left.
struct lab_column {
    const char *title;
    int width;
};
// The line of titles, then lines of as many cells as there are columns. A cell that is longer than
// its column pushes the rest to the right; none is cut.
void lab_table(struct shell *sh, const struct lab_column *columns);
void lab_row(struct shell *sh, const struct lab_column *columns, const char *const *cells);

// Samples of nanoseconds as four columns: LAB_SAMPLE_COLUMNS in the table, and the four cells.
// clang-format off
#define LAB_SAMPLE_COLUMNS {"min us", 9}, {"median us", 10}, {"p99 us", 9}, {"max us", 9}
// clang-format on
enum { LAB_SAMPLE_CELLS = 4, LAB_CELL_SIZE = 16 };
struct lab_sample_cells {
    char text[LAB_SAMPLE_CELLS][LAB_CELL_SIZE];
};
// Fills in minimum, median, p99, maximum as microseconds with two decimals, "-" without samples.
// The samples must be sorted (samples_sort).
void lab_sample_cells(struct lab_sample_cells *cells, const struct samples *samples);
// How long the CPUs have done anything but wait, summed: the difference of two is the cost of what
// was between them, interrupts included.
uint64_t lab_busy_ns(void);
// The number behind the first `name` in a file of /proc. 0; -ENOENT: it is not there; -errno.
int lab_proc_number(const char *path, const char *name, uint64_t *number);
// ns as microseconds with two decimals: "12.34".
const char *lab_us(char cell[LAB_CELL_SIZE], uint64_t ns);
