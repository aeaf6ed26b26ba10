// The watchdogs' settings. What the watchdogs find is shown by `break`:
// tests/console/test_police.py.
#include <contract/ktest.h>
#include <fs/vfs.h>

#include "every_cpu.h"

static const char watchdog_thresh[] = "/proc/sys/kernel/watchdog_thresh";

static bool watchdog_test_set(const char *seconds)
{
    struct file *file;
    bool good;

    if (vfs_open(watchdog_thresh, OPEN_WRITE | OPEN_TRUNCATE, &file) != 0) {
        return false;
    }
    good = vfs_write(file, seconds, 3) == 3;
    vfs_close(file);
    return good;
}

static void watchdog_test_settings(struct every_cpu *self)
{
    bool good = true;

    for (unsigned i = 0; i < 2000 && good; i++) {
        good = watchdog_test_set(i % 2 != 0 ? "20\n" : "30\n");
    }
    if (!good) {
        ktest_fail(self->ktest, __FILE__, __LINE__, "CPU %u cannot set the threshold", self->cpu);
    }
}

// Each setting starts the watchdogs' timers anew, whoever else does so just then.
KTEST(watchdog, settings_by_all_cpus_at_once)
{
    EXPECT(every_cpu_run(ktest, watchdog_test_settings, NULL));
    EXPECT(watchdog_test_set("10\n"));
}
