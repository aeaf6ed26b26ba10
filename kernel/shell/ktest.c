// The runner of the kernel's own tests, which are records that the linker collected
// (contract/ktest.h).
//
// Each test runs in a thread of its own, so that one that hangs can be told of and left behind. The
// report is KTAP, version 1 (Documentation/dev-tools/ktap.rst in Linux):
//
//   KTAP version 1
//   1..3
//   ok 1 list.add
//   # tests/kernel/mm_test.c:41: x is 3 (0x3), expected 4 (0x4)
//   not ok 2 mm.buddy
//   ok 3 apic.x2apic # SKIP this CPU has none
//
// It goes to the second serial port, where a script finds nothing else; without one, to whoever
// asked. A test also fails when the kernel warned while it ran, unless it said beforehand how often
// it would.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/command.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/thread.h>
#include <char/uart.h>
#include <shell/shell.h>
#include "console.h"

LINKER_SET(ktest, ktest);

enum {
    KTEST_TIMEOUT_S = 180,      // a hang, not a measurement: hosts may be very busy
    KTEST_MAX_DIAGNOSTICS = 20, // of one test
    KTEST_MAX_HANGS = 3,        // then the run is given up: too much may be held
};

// One run of one test. Freed by whoever is last: the runner, or a test that hung and came back.
struct ktest_thread {
    struct ktest_run run; // what the test sees
    const struct ktest *test;
    struct completion done;
    uint32_t references; // A
};

static bool ktest_to_port(void)
{
    return uart_present(UART_COM2);
}

static void ktest_print(const char *format, ...) __printf(1, 2);
static void ktest_print(const char *format, ...)
{
    char line[400];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    size_t size = min((size_t)max(length, 0), sizeof(line) - 1);
    line[size - 1] = '\n'; // also when it was cut
    if (ktest_to_port()) {
        uart_write(UART_COM2, line, size);
    } else {
        console_write(line, size);
    }
}

// Diagnostics stand before the line of the test that they belong to. Seen on the console as well,
// where a person looks.
static void ktest_diagnose(const char *text)
{
    ktest_print("# %s\n", text);
    if (ktest_to_port()) {
        console_printf("# %s\n", text);
    }
}

void ktest_fail(struct ktest_run *ktest, const char *file, int line, const char *format, ...)
{
    char text[320];
    unsigned before = __atomic_fetch_add(&ktest->failures, 1, __ATOMIC_RELAXED);
    if (before >= KTEST_MAX_DIAGNOSTICS) {
        return;
    }
    int length = file ? snprintf(text, sizeof(text), "%s:%d: ", file, line) : 0;
    length = min(length, (int)sizeof(text) - 1);
    va_list args;
    va_start(args, format);
    vsnprintf(text + length, sizeof(text) - (size_t)length, format, args);
    va_end(args);
    ktest_diagnose(text);
    if (before + 1 == KTEST_MAX_DIAGNOSTICS) {
        ktest_diagnose("... and more");
    }
}

static void ktest_put(struct ktest_thread *t)
{
    if (__atomic_sub_fetch(&t->references, 1, __ATOMIC_ACQ_REL) == 0) {
        kfree(t);
    }
}

static void ktest_thread_run(void *arg)
{
    struct ktest_thread *t = arg;
    t->test->run(&t->run);
    complete(&t->done);
    ktest_put(t);
}

static void ktest_check_warnings(struct ktest_thread *t, uint32_t before)
{
    uint32_t warnings = warn_count - before;
    if (warnings != t->run.warnings_expected) {
        ktest_fail(&t->run, NULL, 0, "%u warnings in the log, expected %u", warnings,
                   t->run.warnings_expected);
    }
}

static void ktest_report(const struct ktest_thread *t, unsigned number)
{
    const struct ktest *test = t->test;
    const char *verdict = t->run.failures != 0 ? "not ok" : "ok";
    if (t->run.skip && t->run.failures == 0) {
        ktest_print("ok %u %s.%s # SKIP %s\n", number, test->suite, test->name, t->run.skip);
        return;
    }
    ktest_print("%s %u %s.%s\n", verdict, number, test->suite, test->name);
    if (t->run.failures != 0 && ktest_to_port()) {
        console_printf("not ok %u %s.%s\n", number, test->suite, test->name);
    }
}

enum ktest_verdict { KTEST_OK, KTEST_FAILED, KTEST_SKIPPED, KTEST_HUNG };

// By the clock rather than by jiffies: a test may put those forward.
static bool ktest_wait(struct ktest_thread *t)
{
    uint64_t end_ns = clock_ns() + KTEST_TIMEOUT_S * 1000000000ull;
    uint32_t left;

    do {
        left = wait_for_completion_timeout(&t->done, HZ / 10);
    } while (left == 0 && clock_ns() < end_ns);
    return left != 0;
}

static enum ktest_verdict ktest_run_one(const struct ktest *test, unsigned number)
{
    struct ktest_thread *t = kzalloc(sizeof(*t), GFP_KERNEL);
    if (t) {
        t->test = test;
        t->references = 2;
        init_completion(&t->done);
    }
    uint32_t warnings = warn_count;
    struct thread *thread =
        t ? kthread_run(ktest_thread_run, t, "%s.%s", test->suite, test->name) : NULL;
    if (!thread) {
        kfree(t);
        ktest_print("not ok %u %s.%s # no memory for its thread\n", number, test->suite,
                    test->name);
        return KTEST_FAILED;
    }
    if (!ktest_wait(t)) {
        ktest_fail(&t->run, NULL, 0, "not done after %d s, left behind", KTEST_TIMEOUT_S);
        ktest_print("not ok %u %s.%s # timeout\n", number, test->suite, test->name);
        if (ktest_to_port()) {
            console_printf("not ok %u %s.%s # timeout\n", number, test->suite, test->name);
        }
        ktest_put(t);
        return KTEST_HUNG;
    }
    thread_join(thread);
    ktest_check_warnings(t, warnings);
    ktest_report(t, number);
    enum ktest_verdict verdict = t->run.failures != 0 ? KTEST_FAILED
                                 : t->run.skip        ? KTEST_SKIPPED
                                                      : KTEST_OK;
    ktest_put(t);
    return verdict;
}

static bool ktest_matches(const struct ktest *test, const char *pattern)
{
    char name[128];
    snprintf(name, sizeof(name), "%s.%s", test->suite, test->name);
    return strstr(name, pattern) != NULL;
}

unsigned ktest_run_all(const char *pattern)
{
    const struct ktest *test;
    unsigned planned = 0, number = 0, counts[4] = {0};
    set_for_each (test, ktest) {
        planned += ktest_matches(test, pattern);
    }
    ktest_print("KTAP version 1\n");
    ktest_print("1..%u\n", planned);
    set_for_each (test, ktest) {
        if (!ktest_matches(test, pattern)) {
            continue;
        }
        if (counts[KTEST_HUNG] == KTEST_MAX_HANGS) {
            ktest_print("Bail out! %d tests hung\n", KTEST_MAX_HANGS);
            break;
        }
        counts[ktest_run_one(test, ++number)]++;
    }
    unsigned failures = counts[KTEST_FAILED] + counts[KTEST_HUNG] + (planned - number);
    console_printf("%u passed, %u failed, %u skipped\n", counts[KTEST_OK], failures,
                   counts[KTEST_SKIPPED]);
    uart_flush(UART_COM2);
    return failures;
}

static int cmd_ktest(struct shell *sh, int argc, char **argv)
{
    if (argc > 2) {
        return shell_usage(sh, "one pattern at most");
    }
    if (argc == 2 && strcmp(argv[1], "-l") == 0) {
        const struct ktest *test;
        set_for_each (test, ktest) {
            shell_printf(sh, "%s.%s\n", test->suite, test->name);
        }
        return 0;
    }
    return ktest_run_all(argc == 2 ? argv[1] : "") != 0;
}

COMMAND("ktest", cmd_ktest, "ktest [-l | PATTERN]",
        "run the kernel's own tests\nThose whose suite.name holds the pattern; -l lists them. The "
        "report goes to "
        "COM2 if there is one.");
