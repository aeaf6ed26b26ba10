// A boot option (`name=value` or `name`) is declared by the file that obeys it. Options are parsed
// once, early in kernel_main, before memory and threads exist: `set` may only store into static
// variables. Most store one thing: a flag that becomes true, or a number within bounds.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

struct boot_option {
    const char *name;              // without '='
    const char *help;              // one line, shown by `help boot`
    int (*set)(const char *value); // "" when no '=' was given; 0 or -EINVAL (a warning is printed)
    bool *flag;                    // or this becomes true
    uint32_t *number, least, most; // or this becomes the value, if it lies within
};

#define BOOT_OPTION(option_name, function, text)                        \
    LINKER_RECORD(boot_option, boot_option, boot_option_##function) = { \
        .name = (option_name), .help = (text), .set = (function)}
#define BOOT_FLAG(option_name, variable, text)                          \
    LINKER_RECORD(boot_option, boot_option, boot_option_##variable) = { \
        .name = (option_name), .help = (text), .flag = &(variable)}

#define BOOT_NUMBER(option_name, variable, at_least, at_most, text)                           \
    LINKER_RECORD(boot_option, boot_option, boot_option_##variable) = {.name = (option_name), \
                                                                       .help = (text),        \
                                                                       .number = &(variable), \
                                                                       .least = (at_least),   \
                                                                       .most = (at_most)}
