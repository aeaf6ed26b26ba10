// The console: one place where typed bytes arrive and from which text goes to every screen and
// serial line.
//
// Input is a ring that drivers fill from their bottom halves and one reader empties. ^C does not
// wait in it: it means "stop what runs now", so it is handed to the shell's hook on arrival, and
// what was typed ahead of it is thrown away.
//
// Output goes through one mutex, so that two writers' lines don't mix within a write. The log is
// one more writer, with a difficulty: a line may be logged anywhere, under any lock, and showing it
// takes time and locks. So whoever logs only rings a bell (an interrupt to its own CPU,
// VECTOR_IRQ_WORK, that comes when interrupts are on again), and a thread does the showing:
//
//   printk ──> ring of lines ── log_sink ──> lapic_ipi_self
//                                                  └──> tty_log_interrupt ──> tty_log_thread ──> tty_write
//
// Before there are threads, and in a panic, lines go out by polling. tty_log_shown is the first
// line that has not been shown: whoever shows advances it, so that no line is shown twice or lost
// on the way from one stage to the next.
//
// Context: tty_receive from bottom halves, the rest from threads except where the header says
// otherwise.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/wait.h>
#include <dev/tty.h>

enum {
    TTY_RING = 16384,          // bytes typed ahead; a power of two
    TTY_CHUNK = 256,           // bytes converted at a time
    TTY_LOG_BATCH = 32,        // log lines before the typist gets a turn
    TTY_LOG_PATIENCE = 25,     // times 20 ms that a log line waits for the end of somebody's line
    TTY_SETTLE_TICKS = HZ / 5, // how long a prompt waits for the log before it
    CONTROL_C = 3,
};

bool tty_plain;
bool (*tty_interrupt_hook)(void);
void (*tty_log_before)(void), (*tty_log_after)(void);

static struct {
    struct spinlock lock;
    char ring[TTY_RING]; // L
    uint32_t head, tail; // L: free-running; [head, tail) is typed and not yet read
    uint64_t overruns;   // L
    struct wait_queue_head readable;
} tty_input = {.lock = SPINLOCK_INIT("tty_input"), .readable = WAIT_QUEUE_INIT(tty_input.readable)};

static DEFINE_MUTEX(tty_output_mutex);
static LIST_HEAD(tty_outputs);     // L of the mutex; only ever grows
static bool tty_line_start = true; // A, written under the mutex

static uint64_t tty_log_shown; // A: sequence of the first log line that no output has shown
static void (*tty_early_write)(const char *data, size_t size);
static DECLARE_WAIT_QUEUE_HEAD(tty_log_queue);
static DECLARE_WAIT_QUEUE_HEAD(tty_log_settled);
static uint32_t tty_log_pending; // A: the bell

void tty_init(void)
{
    tty_line_start = true;
}

// ---- input --------------------------------------------------------------------------------------

static bool tty_put(char byte)
{
    unsigned long flags;
    spin_lock_irqsave(&tty_input.lock, flags);
    bool fits = tty_input.tail - tty_input.head < TTY_RING;
    if (fits) {
        tty_input.ring[tty_input.tail++ % TTY_RING] = byte;
    } else {
        tty_input.overruns++;
    }
    spin_unlock_irqrestore(&tty_input.lock, flags);
    return fits;
}

static void tty_discard_input(void)
{
    unsigned long flags;
    spin_lock_irqsave(&tty_input.lock, flags);
    tty_input.head = tty_input.tail;
    spin_unlock_irqrestore(&tty_input.lock, flags);
}

bool tty_take_interrupt(void)
{
    assert_not_nmi();
    unsigned long flags;
    bool found = false;
    spin_lock_irqsave(&tty_input.lock, flags);
    for (uint32_t at = tty_input.head; at != tty_input.tail && !found; at++) {
        if (tty_input.ring[at % TTY_RING] == CONTROL_C) {
            tty_input.head = at + 1;
            found = true;
        }
    }
    spin_unlock_irqrestore(&tty_input.lock, flags);
    return found;
}

// A ^C that stopped nothing goes into the ring; but a line may have begun to run just then, after
// the hook looked and before it could find the byte there. So the hook is asked again: whichever of
// the two comes second sees what the other did.
static bool tty_interrupt(void)
{
    tty_discard_input();
    if (tty_interrupt_hook && tty_interrupt_hook()) {
        return true;
    }
    bool fits = tty_put(CONTROL_C);
    if (tty_interrupt_hook && tty_interrupt_hook()) {
        tty_take_interrupt();
    }
    return fits;
}

void tty_receive(const char *data, size_t size)
{
    assert_not_nmi();
    bool fit = true;
    for (size_t i = 0; i < size; i++) {
        fit = (data[i] == CONTROL_C ? tty_interrupt() : tty_put(data[i])) && fit;
    }
    if (!fit) {
        pr_ratelimited(LOG_WARNING, "console: input overrun, %llu bytes lost so far",
                       (unsigned long long)tty_overruns());
    }
    wake_up_all(&tty_input.readable);
}

static bool tty_readable(void)
{
    return READ_ONCE(tty_input.head) != READ_ONCE(tty_input.tail);
}

long tty_read(char *to, size_t size, uint32_t timeout_ms)
{
    might_sleep();
    uint32_t timeout = timeout_ms ? msecs_to_jiffies(timeout_ms) : MAX_SCHEDULE_TIMEOUT;
    long result = wait_event_interruptible_timeout(&tty_input.readable, tty_readable(), timeout);
    if (result <= 0) {
        return result;
    }
    unsigned long flags;
    size_t count = 0;
    spin_lock_irqsave(&tty_input.lock, flags);
    // What was typed behind a ^C is for who comes after. Asked under the lock: whoever sees those
    // bytes here sees the interruption as well, for that came first.
    bool interrupted = thread_interrupted();
    while (!interrupted && count < size && tty_input.head != tty_input.tail) {
        to[count++] = tty_input.ring[tty_input.head++ % TTY_RING];
    }
    spin_unlock_irqrestore(&tty_input.lock, flags);
    return interrupted ? -EINTR : (long)count;
}

uint64_t tty_overruns(void)
{
    return READ_ONCE(tty_input.overruns);
}

// ---- output -------------------------------------------------------------------------------------

void tty_add_output(struct tty_output *output)
{
    mutex_lock(&tty_output_mutex);
    list_add_tail(&output->link, &tty_outputs);
    mutex_unlock(&tty_output_mutex);
}

// Converts as much of the text as fits into `to`; returns how much of it was used.
static size_t tty_convert(const char *data, size_t size, char to[TTY_CHUNK], size_t *length)
{
    size_t used = 0, out = 0;
    while (used < size && out + 2 <= TTY_CHUNK) {
        if (data[used] == '\n') {
            to[out++] = '\r';
        }
        to[out++] = data[used++];
    }
    *length = out;
    return used;
}

// An output that takes nothing is skipped after its own bounded wait: the others go on.
static void tty_write_output(struct tty_output *output, const char *data, size_t size)
{
    while (size != 0) {
        size_t count = output->write(output, data, size);
        data += count;
        size -= count;
        if (size != 0 && (!output->wait_room || !output->wait_room(output))) {
            output->dropped += size;
            return;
        }
    }
}

void tty_write(const char *data, size_t size)
{
    police_might_sleep();
    if (size == 0) {
        return;
    }
    mutex_lock(&tty_output_mutex);
    tty_line_start = data[size - 1] == '\n' || data[size - 1] == '\r';
    while (size != 0) {
        char chunk[TTY_CHUNK];
        size_t length, used = tty_convert(data, size, chunk, &length);
        struct tty_output *output;
        list_for_each_entry (output, &tty_outputs, link) {
            tty_write_output(output, chunk, length);
        }
        data += used;
        size -= used;
    }
    mutex_unlock(&tty_output_mutex);
}

// Walks the list without the mutex: outputs are only added, and by then the machine stands still.
void tty_write_polled(const char *data, size_t size)
{
    while (size != 0) {
        char chunk[TTY_CHUNK];
        size_t length, used = tty_convert(data, size, chunk, &length);
        struct tty_output *output;
        list_for_each_entry (output, &tty_outputs, link) {
            output->write_polled(output, chunk, length);
        }
        data += used;
        size -= used;
    }
}

void tty_flush(void)
{
    mutex_lock(&tty_output_mutex);
    struct tty_output *output;
    list_for_each_entry (output, &tty_outputs, link) {
        if (output->flush) {
            output->flush(output);
        }
    }
    mutex_unlock(&tty_output_mutex);
}

bool tty_at_line_start(void)
{
    return READ_ONCE(tty_line_start);
}

// ---- the log, before threads and in a panic -----------------------------------------------------

static bool tty_log_wanted(const struct log_line *line)
{
    return line->level <= log_console_level;
}

static void tty_log_line(const struct log_line *line, void (*write)(const char *, size_t))
{
    char text[320];
    int length = log_format(line, text, sizeof(text) - 1);
    length = min(max(length, 0), (int)sizeof(text) - 2);
    text[length++] = '\n';
    write(text, (size_t)length);
}

static void tty_log_jump(uint64_t lost, void (*write)(const char *, size_t))
{
    char text[80];
    int length =
        snprintf(text, sizeof(text), "(%llu log lines were overwritten before they were shown)\n",
                 (unsigned long long)lost);
    write(text, (size_t)length);
}

// Shows everything that has not been shown, at most `max` lines; returns how many were read. Not
// two at a time.
static unsigned tty_log_show(void (*write)(const char *, size_t), unsigned max)
{
    struct log_line line;
    unsigned count = 0;
    for (uint64_t next = tty_log_shown; count < max && log_read(&next, &line); count++) {
        if (line.sequence > tty_log_shown) {
            tty_log_jump(line.sequence - tty_log_shown, write);
        }
        WRITE_ONCE(tty_log_shown, next);
        if (tty_log_wanted(&line)) {
            tty_log_line(&line, write);
        }
    }
    return count;
}

// Several CPUs may log at once while they come up, and one may be interrupted here by its own
// exception: who finds the lock taken leaves its line to the one inside, who looks again after it
// has let go.
static void tty_log_sink_early(const struct log_line *line)
{
    static DEFINE_SPINLOCK(lock);
    (void)line;
    unsigned long flags = local_irq_save();
    __atomic_store_n(&tty_log_pending, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&tty_log_pending, __ATOMIC_SEQ_CST) && spin_trylock(&lock)) {
        __atomic_store_n(&tty_log_pending, 0, __ATOMIC_SEQ_CST);
        tty_log_show(tty_early_write, UINT32_MAX);
        spin_unlock(&lock);
    }
    local_irq_restore(flags);
}

void tty_log_early(void (*write)(const char *data, size_t size))
{
    tty_early_write = write;
    tty_log_shown = log_first_sequence();
    log_sink = tty_log_sink_early;
    tty_log_sink_early(NULL);
}

void tty_log_flush_polled(void)
{
    tty_log_show(list_empty(&tty_outputs) && tty_early_write ? tty_early_write : tty_write_polled,
                 UINT32_MAX);
}

// ---- the log, by a thread -----------------------------------------------------------------------

static void tty_log_interrupt(void)
{
    wake_up(&tty_log_queue);
}

// Rings the bell. The caller may hold any lock, a run queue's too, so waking the thread from here
// could deadlock; the interrupt to this CPU arrives when it is safe. An NMI may have cut into
// somebody's use of the local APIC: its lines wait for the thread's own look.
static void tty_log_sink(const struct log_line *line)
{
    if (!tty_log_wanted(line)) {
        return;
    }
    __atomic_store_n(&tty_log_pending, 1, __ATOMIC_SEQ_CST);
    if (!in_nmi()) {
        lapic_ipi_self(VECTOR_IRQ_WORK);
    }
}

// Takes the typist's line away, if there is one, and waits for the end of a line that a command has
// begun, but not for ever.
static void tty_log_begin(void)
{
    for (int tries = 0; tries < TTY_LOG_PATIENCE; tries++) {
        if (tty_log_before) {
            tty_log_before();
        }
        if (tty_at_line_start()) {
            return;
        }
        if (tty_log_after) {
            tty_log_after();
        }
        msleep(20);
    }
    if (tty_log_before) {
        tty_log_before();
    }
    if (!tty_at_line_start()) {
        tty_write("\n", 1);
    }
}

// Is there a line to show at all? Lines that the console does not want are passed by without
// disturbing anybody.
static bool tty_log_skip_unwanted(void)
{
    struct log_line line;
    for (uint64_t next = tty_log_shown; log_read(&next, &line); WRITE_ONCE(tty_log_shown, next)) {
        if (tty_log_wanted(&line) || line.sequence > tty_log_shown) {
            return true;
        }
    }
    return false;
}

static void tty_log_thread(void *arg)
{
    (void)arg;
    for (;;) {
        wait_event_interruptible_timeout(
            &tty_log_queue, __atomic_load_n(&tty_log_pending, __ATOMIC_SEQ_CST) != 0, HZ);
        __atomic_store_n(&tty_log_pending, 0, __ATOMIC_SEQ_CST);
        while (tty_log_skip_unwanted()) {
            tty_log_begin();
            tty_log_show(tty_write, TTY_LOG_BATCH);
            if (tty_log_after) {
                tty_log_after();
            }
        }
        wake_up(&tty_log_settled);
    }
}

void tty_log_settle(void)
{
    might_sleep();
    uint64_t end = log_next_sequence();

    __atomic_store_n(&tty_log_pending, 1, __ATOMIC_SEQ_CST);
    wake_up(&tty_log_queue);
    wait_event_timeout(&tty_log_settled, READ_ONCE(tty_log_shown) >= end, TTY_SETTLE_TICKS);
}

void tty_start_log_thread(void)
{
    might_sleep();
    irq_set_system_vector(VECTOR_IRQ_WORK, IRQ_STAT_IWI, tty_log_interrupt);
    if (!kthread_run(tty_log_thread, NULL, "klogd")) {
        pr_err("console: no memory for the log's thread, its lines go out by polling");
        return;
    }
    log_sink = tty_log_sink;
    __atomic_store_n(&tty_log_pending, 1, __ATOMIC_SEQ_CST);
    wake_up(&tty_log_queue);
}

static int tty_set_term(const char *value)
{
    tty_plain = tty_plain || strcmp(value, "dumb") == 0;
    return 0;
}

BOOT_FLAG("plain", tty_plain, "never print an escape sequence on the console");
BOOT_OPTION("TERM", tty_set_term, "kind of terminal: dumb is the same as plain");
