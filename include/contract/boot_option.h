// A boot option (`name=value` or `name`) is declared by the file that obeys it. Options are parsed
// once, early in kernel_main, before memory and threads exist: `set` may only store into static
// variables.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

struct boot_option {
    const char *name;              // without '='
    const char *help;              // one line, shown by `help boot`
    int (*set)(const char *value); // "" when no '=' was given; 0 or -EINVAL (a warning is printed)
};

#define BOOT_OPTION(option_name, function, text)                        \
    LINKER_RECORD(boot_option, boot_option, boot_option_##function) = { \
        .name = (option_name), .help = (text), .set = (function)}
