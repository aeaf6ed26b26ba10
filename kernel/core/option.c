// Boot options: a command line cut into words, each handed to the record that declared it.
//
//   "ip=dhcp quiet title=\"two words\""  ->  ip: dhcp    quiet: ""    title: two words
//
// Words that GRUB or a person put there and nobody declared are a warning, not an error: the
// machine must come up. Context: boot CPU, before threads.
#include <contract/boot_option.h>
#include <core/log.h>
#include <core/option.h>
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>

LINKER_SET(boot_option, boot_option);

enum { OPTION_MAX_WORD = 256, OPTION_MAX_LINE = 4096 };

static char option_line[OPTION_MAX_LINE]; // I

const char *boot_cmdline(void)
{
    return option_line;
}

static void option_remember(const char *cmdline)
{
    size_t used = strlen(option_line);

    if (used != 0 && *cmdline != '\0' && used + 1 < sizeof(option_line)) {
        option_line[used++] = ' ';
        option_line[used] = '\0';
    }
    strscpy(option_line + used, cmdline, sizeof(option_line) - used);
}

// Copies the next word without its quotes; false at the end of the line.
static bool option_next_word(const char **line, char *word, size_t size, bool *cut)
{
    const char *p = *line + strspn(*line, " \t\r\n");
    size_t length = 0;
    bool quoted = false;

    *cut = false;
    if (*p == '\0') {
        return false;
    }
    for (; *p != '\0' && (quoted || strchr(" \t\r\n", *p) == NULL); p++) {
        if (*p == '"') {
            quoted = !quoted;
        } else if (length + 1 < size) {
            word[length++] = *p;
        } else {
            *cut = true;
        }
    }
    word[length] = '\0';
    *line = p;
    return true;
}

static int option_set(const struct boot_option *option, const char *value)
{
    uint32_t number;

    if (option->set != NULL) {
        return option->set(value);
    }
    if (option->flag != NULL) {
        *option->flag = true;
        return 0;
    }
    if (kstrtou32(value, 0, &number) != 0 || number < option->least || number > option->most) {
        return -EINVAL;
    }
    *option->number = number;
    return 0;
}

static void option_obey(char *word, const char *source)
{
    char *equals = strchr(word, '=');
    const char *value = "";

    if (equals != NULL) {
        *equals = '\0';
        value = equals + 1;
    }
    const struct boot_option *option = set_find_by_name(boot_option, word);
    if (option == NULL) {
        pr_warn("unknown boot option \"%s\" from %s (help boot lists them)", word, source);
    } else if (option_set(option, value) != 0) {
        pr_warn("boot option %s=%s from %s was not understood: %s", word, value, source,
                option->help);
    }
}

void boot_options_parse(const char *cmdline, const char *source)
{
    char word[OPTION_MAX_WORD];
    bool cut;

    option_remember(cmdline);
    while (option_next_word(&cmdline, word, sizeof(word), &cut)) {
        if (cut) {
            pr_warn("boot option \"%.32s...\" from %s is longer than %u characters, ignored", word,
                    source, OPTION_MAX_WORD - 1);
            continue;
        }
        option_obey(word, source);
    }
}
