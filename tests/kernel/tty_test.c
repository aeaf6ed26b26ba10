// The console's input, and the shell from the inside: pipes, statuses, the background, ^C.
#include <contract/ktest.h>

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <dev/tty.h>
#include <fs/vfs.h>
#include <shell/shell.h>

#include "eventually.h"

static unsigned interrupts;
static bool count_interrupt(void)
{
    interrupts++;
    return true;
}

// While a test types, what a person types would be mixed in; nobody does.
static void drain(void)
{
    char data[256];
    while (tty_read(data, sizeof(data), 1) > 0) {
    }
}

KTEST(tty, input_arrives_in_order)
{
    char data[16];
    drain();
    tty_receive("hello ", 6);
    tty_receive("world", 5);
    EXPECT_EQ(tty_read(data, 8, 1000), 8);
    EXPECT_EQ(tty_read(data + 8, 8, 1000), 3);
    EXPECT(memcmp(data, "hello world", 11) == 0);
    EXPECT_EQ(tty_read(data, 8, 20), 0); // nothing more comes
}

KTEST(tty, control_c_does_not_wait_its_turn)
{
    char data[16];
    bool (*hook)(void) = tty_interrupt_hook;
    drain();
    interrupts = 0;
    tty_interrupt_hook = count_interrupt;
    tty_receive("typed ahead\x03next", 16);
    tty_interrupt_hook = hook;
    EXPECT_EQ(interrupts, 1);
    EXPECT_EQ(tty_read(data, sizeof(data), 1000), 4);
    EXPECT(memcmp(data, "next", 4) == 0);
}

KTEST(tty, input_that_does_not_fit_is_counted)
{
    enum { SENT = 40000 };
    char *data = kmalloc(SENT, GFP_KERNEL);
    REQUIRE(data);
    drain();
    uint64_t before = tty_overruns();
    memset(data, 'x', SENT);
    tty_receive(data, SENT);
    long kept = 0, count;
    while ((count = tty_read(data, SENT, 1)) > 0) {
        kept += count;
    }
    EXPECT(kept > 0 && kept < SENT);
    EXPECT_EQ(kept + (long)(tty_overruns() - before), SENT);
    kfree(data);
}

static long reader_result;
static void reader(void *arg)
{
    (void)arg;
    char byte;
    WRITE_ONCE(reader_result, tty_read(&byte, 1, 0));
}

KTEST(tty, a_waiting_reader_can_be_interrupted)
{
    drain();
    struct thread *thread = kthread_run(reader, NULL, "reader");
    REQUIRE(thread);
    msleep(20);
    thread_interrupt(thread);
    thread_join(thread);
    EXPECT_EQ(READ_ONCE(reader_result), -EINTR);
}

// ---- the shell ----------------------------------------------------------------------------------

static const char *file_text(const char *path)
{
    static char data[4096];
    struct file *file;
    data[0] = '\0';
    if (vfs_open(path, OPEN_READ, &file) == 0) {
        long count = vfs_read(file, data, sizeof(data) - 1);
        data[count < 0 ? 0 : count] = '\0';
        vfs_close(file);
    }
    return data;
}

#define EXPECT_TEXT(path, text)                                                                   \
    do {                                                                                          \
        const char *got_ = file_text(path);                                                       \
        if (strcmp(got_, text) != 0) {                                                            \
            ktest_fail(ktest, __FILE__, __LINE__, "%s holds \"%s\", expected \"%s\"", path, got_, \
                       text);                                                                     \
        }                                                                                         \
    } while (0)

KTEST(shell, statuses_are_those_of_sh)
{
    EXPECT_EQ(shell_run_line("true"), 0);
    EXPECT_EQ(shell_run_line("false"), 1);
    EXPECT_EQ(shell_run_line("true | false"), 1);
    EXPECT_EQ(shell_run_line("false | true"), 0);
    EXPECT_EQ(shell_run_line("false && true"), 1);
    EXPECT_EQ(shell_run_line("false || true"), 0);
    EXPECT_EQ(shell_run_line("true || false; false"), 1);
    EXPECT_EQ(shell_run_line("false && false || true"), 0);
    EXPECT_EQ(shell_run_line("false; echo $? > /tmp/ktest"), 0);
    EXPECT_TEXT("/tmp/ktest", "1\n");
    EXPECT_EQ(shell_run_line(""), 0);
    EXPECT_EQ(shell_run_line("rm /tmp/ktest"), 0);
}

KTEST(shell, a_pipe_carries_every_byte)
{
    EXPECT_EQ(shell_run_line("seq 20000 | wc > /tmp/ktest"), 0);
    EXPECT_TEXT("/tmp/ktest", "20000 20000 108894\n");
    EXPECT_EQ(shell_run_line("seq 5000 | cat | tail -n 2 | head -n 1 > /tmp/ktest"), 0);
    EXPECT_TEXT("/tmp/ktest", "4999\n");
    EXPECT_EQ(shell_run_line("yes | head -n 3 > /tmp/ktest"),
              0); // the writer learns that nobody reads
    EXPECT_TEXT("/tmp/ktest", "y\ny\ny\n");
    EXPECT_EQ(
        shell_run_line("echo a > /tmp/ktest; echo b >> /tmp/ktest; cat < /tmp/ktest | sort -r "
                       "> /tmp/ktest2"),
        0);
    EXPECT_TEXT("/tmp/ktest2", "b\na\n");
    EXPECT_EQ(shell_run_line("rm /tmp/ktest /tmp/ktest2"), 0);
}

KTEST(shell, words_reach_commands_as_they_were_meant)
{
    shell_run_line("X='two words'; echo \"$X\" $X '$X' \\$X $UNSET. > /tmp/ktest");
    EXPECT_TEXT("/tmp/ktest", "two words two words $X $X .\n");
    shell_run_line("echo -n -e 'a\\tb\\x41\\n' | cat > /tmp/ktest");
    EXPECT_TEXT("/tmp/ktest", "a\tbA\n");
    EXPECT_EQ(shell_run_line("rm /tmp/ktest"), 0);
}

// The line comes back although its job will not end; the job goes on, and waits where it should.
KTEST(shell, the_background_goes_on_by_itself)
{
    uint64_t begin_ns = clock_ns();

    EXPECT_EQ(shell_run_line("sleep 0.05 && echo done > /tmp/ktest &"), 0);
    bool early = strcmp(file_text("/tmp/ktest"), "") != 0 && clock_ns() - begin_ns < 50 * 1000000;
    EXPECT(!early);
    EXPECT_EQ(shell_run_line("wait"), 0);
    EXPECT_TEXT("/tmp/ktest", "done\n");
    EXPECT_EQ(shell_run_line("sleep 1000 && echo never > /tmp/ktest &"), 0);
    EXPECT_TEXT("/tmp/ktest", "done\n");
    EXPECT_EQ(shell_run_line("jobs | grep 'sleep 1000' > /tmp/ktest2"), 0);
    const char *row = file_text("/tmp/ktest2"); // [3] running ...
    char stop[32];
    snprintf(stop, sizeof(stop), "stop %.*s", (int)strcspn(row + 1, "]"), row + 1);
    EXPECT_EQ(shell_run_line(stop), 0);
    EXPECT_EQ(shell_run_line("wait"), 0);
    EXPECT_TEXT("/tmp/ktest", "done\n"); // it was stopped as a whole
    EXPECT_EQ(shell_run_line("rm /tmp/ktest /tmp/ktest2"), 0);
}

static int long_line_status;
static void long_line(void *arg)
{
    long_line_status = shell_run_line(arg);
}

static void count_sleepers(struct thread *thread, void *arg)
{
    *(unsigned *)arg += strcmp(thread->name, "sleep") == 0 && thread->state == THREAD_SLEEPING;
}

static unsigned sleepers(void)
{
    unsigned count = 0;

    thread_for_each(count_sleepers, &count);
    return count;
}

// The line runs in the foreground, as if typed; stopping it must not stop the line that runs the
// tests.
KTEST(shell, control_c_stops_the_whole_line)
{
    static char line[] = "sleep 100 | cat; echo after > /tmp/ktest";
    unsigned before = sleepers();
    struct thread *thread = kthread_run(long_line, line, "line");
    REQUIRE(thread);
    REQUIRE(EVENTUALLY(sleepers() > before)); // sooner we would stop the tests
    uint32_t start = jiffies;
    EXPECT_EQ(shell_interrupt_newest(), true);
    thread_join(thread);
    EXPECT_EQ(long_line_status, 130);
    EXPECT(jiffies - start < 50 * HZ);
    EXPECT_TEXT("/tmp/ktest", "");
}
