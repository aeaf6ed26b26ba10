// Boot options: "key=value key2" into the records of contract/boot_option.h.
#pragma once

#include <lib/types.h>

// Parses a command line, calls each option's `set`, logs a warning for each unknown or malformed
// one. The line is not changed. Values may be quoted ("a b"). Context: boot, before threads.
// `source` names it in warnings: "multiboot2", "fw_cfg".
void boot_options_parse(const char *cmdline, const char *source);

// The command lines as given, joined with a blank: /proc/cmdline.
const char *boot_cmdline(void);
