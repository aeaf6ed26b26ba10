// The kernel log: a ring of fixed-size lines.
//
//        first                       next
//   ... [ 812 ][ 813 ][ 814 ][ 815 ][   ] ...     sequence numbers only grow
//                                                slot = sequence mod LOG_LINES
//
// A writer takes the lock with interrupts off, fills the slot and moves `next`; readers copy a line
// out under the same lock, so they never see half of one. An NMI that interrupts a writer on its
// own CPU must not wait for the lock: it gives up and counts. A panicking CPU takes no lock at all:
// the others are stopped, and one of them may have been inside.
//
// Context: any.
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>

enum { LOG_LINES = 1024 };

static DEFINE_SPINLOCK(log_lock);
static struct log_line log_ring[LOG_LINES]; // L
static uint64_t log_next;                   // L: sequence of the next line
static uint32_t log_lost;                   // A: lines given up in NMIs

void (*log_sink)(const struct log_line *line);
unsigned log_console_level = LOG_DEBUG;

static int log_set_level(const char *value)
{
    uint32_t level;

    if (kstrtou32(value, 10, &level) != 0 || level > LOG_DEBUG + 1) {
        return -EINVAL;
    }
    log_console_level = level == 0 ? 0 : level - 1; // Linux's "loglevel=4" shows 0 to 3
    return 0;
}

static int log_set_quiet(const char *value)
{
    (void)value;
    log_console_level = LOG_ERR;
    return 0;
}

static unsigned long log_take(void)
{
    return cpu_self()->in_panic ? 0 : spin_lock_irqsave_flags(&log_lock);
}

static void log_give(unsigned long flags)
{
    if (!cpu_self()->in_panic) {
        spin_unlock_irqrestore(&log_lock, flags);
    }
}

// One line into the ring; true when it was stored, with a copy for the sink.
static bool log_store(enum log_level level, const char *text, size_t length, struct log_line *copy)
{
    unsigned long flags;
    struct log_line *line;

    if (in_nmi() && spin_is_held(&log_lock) && !cpu_self()->in_panic) {
        __atomic_fetch_add(&log_lost, 1, __ATOMIC_RELAXED);
        return false;
    }
    flags = log_take();
    line = &log_ring[log_next % LOG_LINES];
    line->sequence = log_next++;
    line->time_ns = clock_ns();
    line->level = level;
    line->cpu = (uint16_t)cpu_id();
    memcpy(line->text, text, length);
    line->text[length] = '\0';
    *copy = *line;
    log_give(flags);
    return true;
}

void printk(enum log_level level, const char *format, ...)
{
    char text[512];
    struct log_line copy;
    const char *rest = text;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    do { // a line per newline, and a further one for what is longer than a slot
        size_t length = strcspn(rest, "\n");
        size_t taken = min(length, sizeof(copy.text) - 1);

        if (log_store(level, rest, taken, &copy) && log_sink != NULL &&
            level <= log_console_level) {
            log_sink(&copy);
        }
        rest += taken;
        if (*rest == '\n') {
            rest++;
        }
    } while (*rest != '\0');
}

bool log_read(uint64_t *sequence, struct log_line *line)
{
    unsigned long flags;
    uint64_t first;
    bool found;

    flags = log_take();
    first = log_next > LOG_LINES ? log_next - LOG_LINES : 0;
    *sequence = max(*sequence, first);
    found = *sequence < log_next;
    if (found) {
        *line = log_ring[*sequence % LOG_LINES];
        (*sequence)++;
    }
    log_give(flags);
    return found;
}

uint64_t log_first_sequence(void)
{
    uint64_t next = READ_ONCE(log_next);

    return next > LOG_LINES ? next - LOG_LINES : 0;
}

uint64_t log_next_sequence(void)
{
    return READ_ONCE(log_next);
}

int log_format(const struct log_line *line, char *to, size_t size)
{
    uint64_t us = line->time_ns / 1000;

    return snprintf(to, size, "[%5u.%06u] %s", (unsigned)(us / 1000000), (unsigned)(us % 1000000),
                    line->text);
}

bool log_limit_ok(struct log_limit *limit, uint32_t *held)
{
    uint64_t now = clock_ns();
    uint64_t next = __atomic_load_n(&limit->next_ns, __ATOMIC_RELAXED);

    if (now < next || !__atomic_compare_exchange_n(&limit->next_ns, &next, now + 1000000000ull,
                                                   false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&limit->held, 1, __ATOMIC_RELAXED);
        return false;
    }
    *held = __atomic_exchange_n(&limit->held, 0, __ATOMIC_RELAXED);
    return true;
}

BOOT_OPTION("loglevel", log_set_level, "loglevel=N: lines below level N (0..8) reach the console");
BOOT_OPTION("quiet", log_set_quiet, "only errors reach the console at boot; dmesg has the rest");
