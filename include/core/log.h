// The kernel log: a ring of lines that dmesg reads and the console follows. Nothing here blocks; a
// line logged in a hard interrupt with locks held is in the ring at once and on the console soon
// after. Context: any, NMI included (a line that finds the ring's lock taken by its own CPU is
// counted as lost rather than deadlocking).
#pragma once

#include <lib/types.h>

enum log_level { // numbers as in Linux
    LOG_EMERG = 0,
    LOG_ALERT,
    LOG_CRIT,
    LOG_ERR,
    LOG_WARNING,
    LOG_NOTICE,
    LOG_INFO,
    LOG_DEBUG,
};

void printk(enum log_level level, const char *format, ...) __printf(2, 3);

#define pr_emerg(...)  printk(LOG_EMERG, __VA_ARGS__)
#define pr_crit(...)   printk(LOG_CRIT, __VA_ARGS__)
#define pr_err(...)    printk(LOG_ERR, __VA_ARGS__)
#define pr_warn(...)   printk(LOG_WARNING, __VA_ARGS__)
#define pr_notice(...) printk(LOG_NOTICE, __VA_ARGS__)
#define pr_info(...)   printk(LOG_INFO, __VA_ARGS__)
#define pr_debug(...)  printk(LOG_DEBUG, __VA_ARGS__)

// At most one line a second from this place; says how many were held back.
struct log_limit {
    uint64_t next_ns; // A
    uint32_t held;    // A
};
bool log_limit_ok(struct log_limit *limit, uint32_t *held);
#define pr_ratelimited(level, format, ...)                             \
    do {                                                               \
        static struct log_limit log_limit_;                            \
        uint32_t log_held_;                                            \
        if (log_limit_ok(&log_limit_, &log_held_)) {                   \
            if (log_held_ != 0) {                                      \
                printk(level, "(%u such lines held back)", log_held_); \
            }                                                          \
            printk(level, format, ##__VA_ARGS__);                      \
        }                                                              \
    } while (0)

// One line as the ring holds it, without a newline.
struct log_line {
    uint64_t sequence;
    uint64_t time_ns;
    enum log_level level;
    uint16_t cpu;
    char text[240]; // longer lines are continued in a next one
};

// Copies the line with the smallest sequence >= *sequence and sets *sequence past it. False when
// there is none yet. A jump in line->sequence tells how many were overwritten before they were
// read.
bool log_read(uint64_t *sequence, struct log_line *line);
uint64_t log_first_sequence(void);
uint64_t log_next_sequence(void); // of the line that will be logged next

// Formats as the console and dmesg show it: "[    0.123456] text".
int log_format(const struct log_line *line, char *to, size_t size);

// Called after each line is in the ring, in the caller's context: must not block or log. Tied in
// kernel_main: first a polled writer to COM1, later the console's wake-up.
extern void (*log_sink)(const struct log_line *line);

// Lines of this level and above (numerically below) reach the console: boot options `loglevel=` and
// `quiet`.
extern unsigned log_console_level;
