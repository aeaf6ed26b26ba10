// The console between its drivers and its readers, on a machine of one thread: whoever would sleep
// runs `asleep` instead, which lets something happen, and the log is a row of lines made here.
//
// links: kernel/dev/tty.c kernel/lib/format.c kernel/lib/text.c kernel/lib/string.c tests/host/stubs/spinlock.c tests/host/stubs/panic.c
#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/wait.h>
#include <dev/tty.h>

// ---- the machine --------------------------------------------------------------------------------

volatile uint32_t jiffies;
static struct cpu cpu;
static void (*asleep)(void); // what happens while somebody sleeps
static bool interrupted;
static unsigned bells;
static void (*log_thread)(void *arg);
static jmp_buf log_thread_idle;

void prepare_to_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry,
                     enum thread_state state)
{
    (void)queue;
    (void)entry;
    (void)state;
}

void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    (void)queue;
    (void)entry;
}

uint32_t schedule_timeout(uint32_t timeout_jiffies)
{
    (void)timeout_jiffies;
    if (asleep) {
        asleep();
        return 1;
    }
    return 0;
}

void msleep(uint32_t ms)
{
    (void)ms;
    if (asleep) {
        asleep();
    }
}

bool thread_interrupted(void)
{
    return interrupted;
}

void wake_up(struct wait_queue_head *queue)
{
    (void)queue;
}

void wake_up_all(struct wait_queue_head *queue)
{
    (void)queue;
}

void mutex_lock(struct mutex *mutex)
{
    assert_null(mutex->owner);
    mutex->owner = (struct thread *)mutex;
}

void mutex_unlock(struct mutex *mutex)
{
    assert_non_null(mutex->owner);
    mutex->owner = NULL;
}

struct thread *kthread_run(void (*fn)(void *arg), void *arg, const char *name_format, ...)
{
    (void)arg;
    (void)name_format;
    log_thread = fn;
    return (struct thread *)&log_thread;
}

void irq_set_system_vector(uint8_t vector, enum irq_stat stat, void (*fn)(void))
{
    assert_int_equal(vector, VECTOR_IRQ_WORK);
    assert_int_equal(stat, IRQ_STAT_IWI);
    assert_non_null(fn);
}

void lapic_ipi_self(uint8_t vector)
{
    assert_int_equal(vector, VECTOR_IRQ_WORK);
    bells++;
}

bool spin_trylock(struct spinlock *lock)
{
    spin_lock(lock);
    return true;
}

// ---- the log ------------------------------------------------------------------------------------

enum { LINES = 64 };
void (*log_sink)(const struct log_line *line);
unsigned log_console_level = LOG_INFO;
static struct log_line lines[LINES];
static uint64_t line_count, line_first;

void printk(enum log_level level, const char *format, ...)
{
    struct log_line *line = &lines[line_count % LINES];
    va_list args;
    va_start(args, format);
    *line = (struct log_line){.sequence = line_count++, .level = level};
    vsnprintf(line->text, sizeof(line->text), format, args);
    va_end(args);
    if (log_sink) {
        log_sink(line);
    }
}

bool log_limit_ok(struct log_limit *limit, uint32_t *held)
{
    (void)limit;
    *held = 0;
    return true;
}

bool log_read(uint64_t *sequence, struct log_line *line)
{
    uint64_t at = *sequence < line_first ? line_first : *sequence;
    if (at >= line_count) {
        return false;
    }
    *line = lines[at % LINES];
    *sequence = at + 1;
    return true;
}

uint64_t log_first_sequence(void)
{
    return line_first;
}

uint64_t log_next_sequence(void)
{
    return line_count;
}

int log_format(const struct log_line *line, char *to, size_t size)
{
    return snprintf(to, size, "[log] %s", line->text);
}

// ---- the outputs --------------------------------------------------------------------------------

struct fake_output {
    struct tty_output output;
    char text[8192];
    size_t length, room; // room: taken at a time, 0 is stuck
    bool can_wait;
    unsigned waits;
};

static size_t fake_write(struct tty_output *output, const char *data, size_t size)
{
    struct fake_output *fake = container_of(output, struct fake_output, output);
    size_t count = size < fake->room ? size : fake->room;
    assert_true(fake->length + count < sizeof(fake->text));
    memcpy(fake->text + fake->length, data, count);
    fake->length += count;
    fake->text[fake->length] = '\0';
    return count;
}

static bool fake_wait_room(struct tty_output *output)
{
    struct fake_output *fake = container_of(output, struct fake_output, output);
    fake->waits++;
    return fake->can_wait;
}

static void fake_write_polled(struct tty_output *output, const char *data, size_t size)
{
    struct fake_output *fake = container_of(output, struct fake_output, output);
    memcpy(fake->text + fake->length, data, size);
    fake->length += size;
    fake->text[fake->length] = '\0';
}

static struct fake_output slow, fast;

static const char *said(struct fake_output *fake)
{
    fake->length = 0;
    return fake->text;
}

static int start(void **state)
{
    (void)state;
    cpu.self = &cpu;
    syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu); // what cpu.h reads at %gs
    if (!slow.output.name) {
        slow.output = (struct tty_output){.name = "slow",
                                          .write = fake_write,
                                          .wait_room = fake_wait_room,
                                          .write_polled = fake_write_polled};
        fast.output = (struct tty_output){
            .name = "fast", .write = fake_write, .write_polled = fake_write_polled};
        tty_init();
        tty_add_output(&slow.output);
        tty_add_output(&fast.output);
    }
    slow.room = 1;
    slow.can_wait = true;
    slow.waits = 0;
    fast.room = SIZE_MAX;
    slow.length = fast.length = 0;
    slow.text[0] = fast.text[0] = '\0';
    asleep = NULL;
    interrupted = false;
    tty_interrupt_hook = NULL;
    tty_log_before = tty_log_after = NULL;
    char drained[256];
    while (tty_read(drained, sizeof(drained), 1) > 0) {
    }
    return 0;
}

// ---- input --------------------------------------------------------------------------------------

static void test_bytes_arrive_in_order(void **state)
{
    (void)state;
    char data[16];
    tty_receive("hello ", 6);
    tty_receive("world", 5);
    assert_int_equal(tty_read(data, 4, 1), 4);
    assert_int_equal(tty_read(data + 4, 12, 1), 7);
    assert_memory_equal(data, "hello world", 11);
    assert_int_equal(tty_read(data, 4, 1), 0);
    interrupted = true;
    assert_int_equal(tty_read(data, 4, 0), -EINTR);
}

static void test_the_ring_wraps_and_overruns_are_counted(void **state)
{
    (void)state;
    static char data[20000];
    for (unsigned i = 0; i < 50; i++) {
        memset(data, (int)('a' + i % 26), 999);
        tty_receive(data, 999);
        memset(data, 0, 999);
        assert_int_equal(tty_read(data, sizeof(data), 1), 999);
        assert_int_equal(data[0], 'a' + i % 26);
        assert_int_equal(data[998], 'a' + i % 26);
    }
    uint64_t before = tty_overruns();
    memset(data, 'x', sizeof(data));
    tty_receive(data, sizeof(data));
    long kept = tty_read(data, sizeof(data), 1);
    assert_int_equal(kept, 16384);
    assert_int_equal(tty_overruns() - before, sizeof(data) - 16384);
    const struct log_line *last = &lines[(line_count - 1) % LINES];
    assert_non_null(strstr(last->text, "input overrun"));
}

static unsigned asked;
static bool nobody_runs(void)
{
    asked++;
    return false;
}
static bool somebody_runs(void)
{
    asked++;
    return true;
}
static bool just_began(void)
{
    return asked++ > 0; // not when it is asked first, but then
}

static void test_control_c(void **state)
{
    (void)state;
    char data[16];
    asked = 0;
    tty_interrupt_hook = somebody_runs;
    tty_receive("ahead\x03late", 10);
    assert_int_equal(asked, 1);
    assert_int_equal(tty_read(data, sizeof(data), 1), 4);
    assert_memory_equal(data, "late", 4);

    tty_interrupt_hook = nobody_runs; // then it is the line editor's
    tty_receive("ahead\x03late", 10);
    assert_int_equal(tty_read(data, sizeof(data), 1), 5);
    assert_memory_equal(data, "\x03late", 5);

    asked = 0;
    tty_interrupt_hook = just_began; // a line began to run between the look and the byte
    tty_receive("ahead\x03late", 10);
    assert_int_equal(tty_read(data, sizeof(data), 1), 4);
    assert_memory_equal(data, "late", 4);

    tty_interrupt_hook = nobody_runs; // a line that begins now finds it
    tty_receive("a\x03"
                "b",
                3);
    assert_true(tty_take_interrupt());
    assert_false(tty_take_interrupt());
    assert_int_equal(tty_read(data, sizeof(data), 1), 1);
    assert_int_equal(data[0], 'b');
}

// ---- output -------------------------------------------------------------------------------------

static void test_newlines_and_slow_outputs(void **state)
{
    (void)state;
    tty_write("one\ntwo", 7);
    assert_string_equal(said(&fast), "one\r\ntwo");
    assert_string_equal(said(&slow), "one\r\ntwo");
    assert_int_equal(slow.waits, 7);
    assert_false(tty_at_line_start());
    tty_write("\n", 1);
    assert_true(tty_at_line_start());
    tty_write("", 0);
    assert_true(tty_at_line_start());
    tty_write("prompt\r", 7);
    assert_true(tty_at_line_start());
}

static void test_an_output_that_is_stuck_does_not_hold_up_the_others(void **state)
{
    (void)state;
    slow.room = 0;
    slow.can_wait = false;
    tty_write("text\n", 5);
    assert_string_equal(said(&fast), "text\r\n");
    assert_int_equal(slow.length, 0);
    assert_int_equal(slow.waits, 1);
    assert_int_equal(slow.output.dropped, 6);
}

static void test_long_texts_with_many_newlines(void **state)
{
    (void)state;
    char text[2000], expected[4096] = "";
    for (unsigned i = 0; i < sizeof(text); i++) {
        text[i] = i % 3 == 1 ? '\n' : 'x';
        strcat(expected, i % 3 == 1 ? "\r\n" : "x");
    }
    slow.room = 7;
    tty_write(text, sizeof(text));
    assert_string_equal(said(&fast), expected);
    assert_string_equal(said(&slow), expected);
}

// ---- the log ------------------------------------------------------------------------------------

static void thread_sleeps(void)
{
    longjmp(log_thread_idle, 1);
}

// Lets the thread do what there is to do, until it sleeps again.
static void run_log_thread(void)
{
    asleep = thread_sleeps;
    if (setjmp(log_thread_idle) == 0) {
        log_thread(NULL);
    }
    asleep = NULL;
}

static void note_before(void)
{
    fake_write(&fast.output, "{", 1);
}
static void note_after(void)
{
    fake_write(&fast.output, "}", 1);
}

static void test_the_log_is_shown_by_its_thread(void **state)
{
    (void)state;
    tty_write("\n", 1);
    tty_start_log_thread();
    assert_non_null(log_thread);
    run_log_thread();
    said(&fast);
    fast.text[0] = '\0';

    bells = 0;
    pr_debug("not for the console");
    assert_int_equal(bells, 0);
    pr_info("one");
    pr_warn("two");
    assert_int_equal(bells, 2);
    assert_int_equal(fast.length, 0); // nothing yet: whoever logs does not write
    tty_log_before = note_before;
    tty_log_after = note_after;
    run_log_thread();
    assert_string_equal(said(&fast), "{[log] one\r\n[log] two\r\n}");
    fast.text[0] = '\0';
    run_log_thread();
    assert_string_equal(fast.text, "");
    pr_debug("still not");
    run_log_thread(); // nobody is disturbed for it
    assert_string_equal(fast.text, "");
}

static void test_an_nmi_rings_no_bell(void **state)
{
    (void)state;
    bells = 0;
    cpu.nmi_depth = 1;
    pr_crit("in an NMI");
    cpu.nmi_depth = 0;
    assert_int_equal(bells, 0);
    run_log_thread();
    assert_non_null(strstr(said(&fast), "[log] in an NMI\r\n"));
}

static void test_what_was_overwritten_is_said(void **state)
{
    (void)state;
    run_log_thread();
    said(&fast);
    fast.text[0] = '\0';
    for (int i = 0; i < 10; i++) {
        pr_info("line %d", i);
    }
    line_first = line_count - 2; // the ring kept only two
    run_log_thread();
    assert_string_equal(said(&fast), "(8 log lines were overwritten before they were shown)\r\n"
                                     "[log] line 8\r\n[log] line 9\r\n");
}

static unsigned naps;
static void line_ends_at_the_third_nap(void)
{
    if (++naps == 3) {
        tty_write("end\n", 4);
    } else if (naps > 3) {
        longjmp(log_thread_idle, 1);
    }
}

static void line_never_ends(void)
{
    if (++naps > 200) {
        longjmp(log_thread_idle, 1);
    }
}

static void test_a_log_line_waits_for_the_end_of_the_line_before(void **state)
{
    (void)state;
    run_log_thread();
    said(&fast);
    tty_write("begin ", 6);
    pr_info("log");
    naps = 0;
    asleep = line_ends_at_the_third_nap;
    if (setjmp(log_thread_idle) == 0) {
        log_thread(NULL);
    }
    assert_string_equal(said(&fast), "begin end\r\n[log] log\r\n");

    tty_write("for ever ", 9);
    pr_info("log");
    naps = 0;
    asleep = line_never_ends;
    if (setjmp(log_thread_idle) == 0) {
        log_thread(NULL);
    }
    assert_string_equal(said(&fast), "for ever \r\n[log] log\r\n"); // but it has its limits
}

static void test_a_panic_shows_the_rest_once(void **state)
{
    (void)state;
    run_log_thread();
    said(&fast);
    said(&slow);
    slow.room = 0; // nobody waits any more
    slow.can_wait = false;
    pr_emerg("the end");
    tty_log_flush_polled();
    assert_string_equal(said(&fast), "[log] the end\r\n");
    assert_string_equal(said(&slow), "[log] the end\r\n");
    fast.text[0] = '\0';
    tty_log_flush_polled();
    assert_string_equal(fast.text, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, start)
    const struct CMUnitTest tests[] = {
        TEST(test_bytes_arrive_in_order),
        TEST(test_the_ring_wraps_and_overruns_are_counted),
        TEST(test_control_c),
        TEST(test_newlines_and_slow_outputs),
        TEST(test_an_output_that_is_stuck_does_not_hold_up_the_others),
        TEST(test_long_texts_with_many_newlines),
        TEST(test_the_log_is_shown_by_its_thread),
        TEST(test_an_nmi_rings_no_bell),
        TEST(test_what_was_overwritten_is_said),
        TEST(test_a_log_line_waits_for_the_end_of_the_line_before),
        TEST(test_a_panic_shows_the_rest_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
