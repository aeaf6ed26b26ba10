// /proc/version and /proc/cmdline: what runs here, and how it was started.
#include <contract/proc_file.h>
#include <core/option.h>
#include <core/version.h>

#ifdef __clang__
#define VERSION_COMPILER "clang " __clang_version__
#else
#define VERSION_COMPILER "gcc version " __VERSION__
#endif

static void version_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, KERNEL_NAME " version " KERNEL_VERSION " (" VERSION_COMPILER ") "
                             "#1 SMP PREEMPT x86_64\n");
}

static void version_cmdline_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%s\n", boot_cmdline());
}

PROC_FILE("version", version_show);
PROC_FILE("cmdline", version_cmdline_show);
