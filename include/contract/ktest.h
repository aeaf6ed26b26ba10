// A test that runs inside the kernel: KTEST(suite, name) { EXPECT(...); }. Run by the console
// command `ktest [pattern]` or the boot option of the same name, printed as KTAP. Context: a thread
// of its own, interrupts on, may sleep.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

struct ktest_run {
    unsigned failures;
    const char *skip; // reason, or NULL
    // How many WARN_ONs the test raises on purpose: any other number fails it.
    unsigned warnings_expected;
};

struct ktest {
    const char *suite, *name;
    void (*run)(struct ktest_run *ktest);
};

#define KTEST(suite_name, test_name)                                                        \
    static void ktest_##suite_name##_##test_name(struct ktest_run *ktest);                  \
    LINKER_RECORD(ktest, ktest, ktest_record_##suite_name##_##test_name) = {                \
        .suite = #suite_name, .name = #test_name, .run = ktest_##suite_name##_##test_name}; \
    static void ktest_##suite_name##_##test_name(struct ktest_run *ktest)

// Notes the failure with file, line and text; the test goes on. Defined by the runner
// (kernel/shell/ktest.c).
void ktest_fail(struct ktest_run *ktest, const char *file, int line, const char *format, ...)
    __printf(4, 5);

#define EXPECT(condition)                                                      \
    do {                                                                       \
        if (!(condition)) {                                                    \
            ktest_fail(ktest, __FILE__, __LINE__, "expected: %s", #condition); \
        }                                                                      \
    } while (0)
#define EXPECT_EQ(actual, expected)                                                            \
    do {                                                                                       \
        long long ktest_a_ = (long long)(actual), ktest_e_ = (long long)(expected);            \
        if (ktest_a_ != ktest_e_) {                                                            \
            ktest_fail(ktest, __FILE__, __LINE__, "%s is %lld (%#llx), expected %lld (%#llx)", \
                       #actual, ktest_a_, ktest_a_, ktest_e_, ktest_e_);                       \
        }                                                                                      \
    } while (0)
// Ends the test early where going on makes no sense.
#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (!(condition)) {                                                    \
            ktest_fail(ktest, __FILE__, __LINE__, "required: %s", #condition); \
            return;                                                            \
        }                                                                      \
    } while (0)
#define SKIP(reason)            \
    do {                        \
        ktest->skip = (reason); \
        return;                 \
    } while (0)
