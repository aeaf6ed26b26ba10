// Commands that take text in and give text out, for pipes: head tail grep wc tee sort seq yes.
//
// Context: each runs in a thread of its own.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <mm/slab.h>
#include <fs/vfs.h>
#include "input.h"
#include "job.h"
#include "match.h"

enum { COUNT_MAX = 1000000000 };

// Options of one letter, alone or together (-vn), up to the first other word or behind --. Each has
// its flag, in the order of `letters`. The number of the next word; -1 after a message.
static int text_options(struct shell *sh, int argc, char **argv, const char *letters,
                        bool *const flags[])
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            return i + 1;
        }
        for (const char *letter = argv[i] + 1; *letter != '\0'; letter++) {
            const char *at = strchr(letters, *letter);

            if (at == NULL) {
                shell_usage(sh, "%s: unknown option", argv[i]);
                return -1;
            }
            *flags[at - letters] = true;
        }
    }
    return i;
}

// ---- head and tail ------------------------------------------------------------------------------

// "-n 5", "-n5" or "-5"; *at moves past it. 0 or a status after a message.
static int count_option(struct shell *sh, int argc, char **argv, int *at, uint32_t *lines)
{
    *lines = 10;
    if (*at >= argc || argv[*at][0] != '-' || argv[*at][1] == '\0') {
        return 0;
    }
    const char *number = argv[(*at)++] + 1;
    if (number[0] == 'n') {
        number++;
        if (*number == '\0' && *at < argc) {
            number = argv[(*at)++];
        }
    }
    if (kstrtou32(number, 10, lines) != 0 || *lines > COUNT_MAX) {
        return shell_usage(sh, "%s: lines are 0 to %d", number, COUNT_MAX);
    }
    return 0;
}

static int head_input(struct input *in, void *arg)
{
    uint32_t left = *(uint32_t *)arg;
    char data[256];
    size_t length = 0;
    int byte;
    while (left != 0 && (byte = input_byte(in)) >= 0) {
        data[length++] = (char)byte;
        left -= byte == '\n';
        if (byte == '\n' || length == sizeof(data)) {
            if (shell_write(in->sh, data, length) != 0) {
                return STATUS_FAILED;
            }
            length = 0;
        }
    }
    return length != 0 && shell_write(in->sh, data, length) != 0;
}

static int cmd_head(struct shell *sh, int argc, char **argv)
{
    uint32_t lines;
    int first = 1, status = count_option(sh, argc, argv, &first, &lines);
    return status != 0 ? status : input_each(sh, argc, argv, first, head_input, &lines);
}

static int tail_input(struct input *in, void *arg)
{
    uint32_t lines = *(uint32_t *)arg;
    size_t length;
    char *data = input_whole(in, &length);
    if (!data) {
        return STATUS_FAILED;
    }
    size_t at = length;
    uint32_t seen = 0;
    at -= at > 0 && data[at - 1] == '\n'; // the end of the last line begins no new one
    while (at > 0 && !(data[at - 1] == '\n' && ++seen == lines)) {
        at--;
    }
    at = lines == 0 ? length : at;
    int error = shell_write(in->sh, data + at, length - at);
    kfree(data);
    return error != 0;
}

static int cmd_tail(struct shell *sh, int argc, char **argv)
{
    uint32_t lines;
    int first = 1, status = count_option(sh, argc, argv, &first, &lines);
    return status != 0 ? status : input_each(sh, argc, argv, first, tail_input, &lines);
}

// ---- grep ---------------------------------------------------------------------------------------

struct grep {
    const char *pattern;
    bool invert, ignore_case, count, number, quiet, with_name;
    bool found;
};

static void grep_show(struct input *in, const struct grep *g, const char *line, unsigned number)
{
    const char *name = in->name ? in->name : "(input)";
    if (g->with_name) {
        shell_printf(in->sh, "%s:", name);
    }
    if (g->number) {
        shell_printf(in->sh, "%u:", number);
    }
    shell_printf(in->sh, "%s\n", line);
}

static int grep_input(struct input *in, void *arg)
{
    struct grep *g = arg;
    char *line = kmalloc(INPUT_LINE_MAX + 1, GFP_KERNEL);
    if (!line) {
        return shell_error(in->sh, "%s", strerror(ENOMEM));
    }
    unsigned matches = 0;
    bool newline;
    for (unsigned number = 1; input_line(in, line, &newline); number += newline) {
        if (match_text(g->pattern, line, g->ignore_case) == g->invert) {
            continue;
        }
        matches++;
        if (g->quiet) {
            break;
        }
        if (!g->count) {
            grep_show(in, g, line, number);
        }
    }
    if (g->count) {
        char number[12];
        snprintf(number, sizeof(number), "%u", matches);
        shell_printf(in->sh, "%s%s%s\n", g->with_name && in->name ? in->name : "",
                     g->with_name && in->name ? ":" : "", number);
    }
    g->found = g->found || matches != 0;
    kfree(line);
    return 0;
}

static int cmd_grep(struct shell *sh, int argc, char **argv)
{
    struct grep g = {.pattern = NULL};
    bool *const options[] = {&g.invert, &g.ignore_case, &g.count, &g.number, &g.quiet};
    int i = text_options(sh, argc, argv, "vicnq", options);
    if (i < 0) {
        return STATUS_USAGE;
    }
    if (i == argc) {
        return shell_usage(sh, "which pattern?");
    }
    g.pattern = argv[i++];
    const char *wrong = match_check(g.pattern);
    if (wrong) {
        return shell_usage(sh, "%s: not a pattern: %s", g.pattern, wrong);
    }
    g.with_name = argc - i > 1;
    int status = input_each(sh, argc, argv, i, grep_input, &g);
    return status != 0 ? STATUS_USAGE : !g.found;
}

// ---- wc, tee ------------------------------------------------------------------------------------

struct wc {
    bool lines, words, bytes;
    uint64_t total[3];
    unsigned inputs;
};

static void wc_show(struct shell *sh, const struct wc *w, const uint64_t counts[3],
                    const char *name)
{
    const bool wanted[3] = {w->lines, w->words, w->bytes};
    const char *blank = "";
    for (int i = 0; i < 3; i++) {
        if (wanted[i]) {
            shell_printf(sh, "%s%llu", blank, (unsigned long long)counts[i]);
            blank = " ";
        }
    }
    shell_printf(sh, "%s%s\n", name ? " " : "", name ? name : "");
}

static int wc_input(struct input *in, void *arg)
{
    struct wc *w = arg;
    uint64_t counts[3] = {0};
    bool in_word = false;
    int byte;
    while ((byte = input_byte(in)) >= 0) {
        bool blank = byte == ' ' || (byte >= '\t' && byte <= '\r');
        counts[0] += byte == '\n';
        counts[1] += !blank && !in_word;
        counts[2]++;
        in_word = !blank;
    }
    for (int i = 0; i < 3; i++) {
        w->total[i] += counts[i];
    }
    w->inputs++;
    wc_show(in->sh, w, counts, in->name);
    return 0;
}

static int cmd_wc(struct shell *sh, int argc, char **argv)
{
    struct wc w = {.lines = false};
    bool *const options[] = {&w.lines, &w.words, &w.bytes};
    int i = text_options(sh, argc, argv, "lwc", options);
    if (i < 0) {
        return STATUS_USAGE;
    }
    if (!w.lines && !w.words && !w.bytes) {
        w.lines = w.words = w.bytes = true;
    }
    int status = input_each(sh, argc, argv, i, wc_input, &w);
    if (w.inputs > 1) {
        wc_show(sh, &w, w.total, "total");
    }
    return status;
}

enum { TEE_MAX_FILES = 8 };

static int tee_copy(struct shell *sh, struct file **files, char *const *names, int count)
{
    char data[1024];
    long size;
    int status = 0;
    while ((size = shell_read(sh, data, sizeof(data))) > 0) {
        for (int i = 0; i < count; i++) {
            for (long at = 0; files[i] && at < size;) {
                long wrote = vfs_write(files[i], data + at, (size_t)(size - at));
                if (wrote <= 0) {
                    status = shell_error(sh, "%s: %s", names[i], strerror((int)wrote));
                    vfs_close(files[i]);
                    files[i] = NULL;
                }
                at += max(wrote, 0l);
            }
        }
        if (shell_write(sh, data, (size_t)size) != 0) {
            return STATUS_FAILED;
        }
    }
    return status;
}

static int cmd_tee(struct shell *sh, int argc, char **argv)
{
    int first = 1, status = 0;
    bool append = argc > 1 && strcmp(argv[1], "-a") == 0;
    first += append;
    if (argc - first > TEE_MAX_FILES) {
        return shell_usage(sh, "at most %d files", TEE_MAX_FILES);
    }
    struct file *files[TEE_MAX_FILES] = {NULL};
    for (int i = first; i < argc; i++) {
        int error =
            vfs_open(argv[i], OPEN_WRITE | OPEN_CREATE | (append ? OPEN_APPEND : OPEN_TRUNCATE),
                     &files[i - first]);
        if (error != 0) {
            status = shell_error(sh, "%s: %s", argv[i], strerror(error));
        }
    }
    int copied = tee_copy(sh, files, argv + first, argc - first);
    for (int i = 0; i < argc - first; i++) {
        if (files[i]) {
            vfs_close(files[i]);
        }
    }
    return copied != 0 ? copied : status;
}

// ---- sort ---------------------------------------------------------------------------------------

struct sort {
    bool numeric, reverse, unique;
    char **lines;
    size_t count;
};

static int sort_compare_numbers(const char *a, const char *b)
{
    long long values[2] = {0, 0};
    const char *texts[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        const char *s = texts[i] + strspn(texts[i], " \t");
        bool negative = *s == '-';
        s += negative;
        for (; *s >= '0' && *s <= '9' && values[i] < INT64_MAX / 16; s++) {
            values[i] = values[i] * 10 + (*s - '0');
        }
        values[i] = negative ? -values[i] : values[i];
    }
    return values[0] < values[1] ? -1 : values[0] > values[1];
}

static int sort_compare(const struct sort *s, const char *a, const char *b)
{
    int order = s->numeric ? sort_compare_numbers(a, b) : 0;
    order = order != 0 ? order : strcmp(a, b);
    return s->reverse ? -order : order;
}

// Heap sort: no memory, no recursion, and no input that makes it slow.
static void sort_sift(const struct sort *s, size_t root, size_t count)
{
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && sort_compare(s, s->lines[child], s->lines[child + 1]) < 0) {
            child++;
        }
        if (sort_compare(s, s->lines[root], s->lines[child]) >= 0) {
            return;
        }
        char *line = s->lines[root];
        s->lines[root] = s->lines[child];
        s->lines[child] = line;
    }
}

static void sort_lines(const struct sort *s)
{
    for (size_t root = s->count / 2; root-- > 0;) {
        sort_sift(s, root, s->count);
    }
    for (size_t end = s->count; end-- > 1;) {
        char *line = s->lines[0];
        s->lines[0] = s->lines[end];
        s->lines[end] = line;
        sort_sift(s, 0, end);
    }
}

// A NUL would end a line before its end, and is dropped, as input_line does. How many are left.
static size_t sort_drop_nuls(char *data, size_t length)
{
    size_t left = 0;
    for (size_t i = 0; i < length; i++) {
        data[left] = data[i];
        left += data[i] != '\0';
    }
    data[left] = '\0';
    return left;
}

static int sort_input(struct input *in, void *arg)
{
    struct sort *s = arg;
    size_t length, lines = 1;
    char *data = input_whole(in, &length);
    if (!data) {
        return STATUS_FAILED;
    }
    length = sort_drop_nuls(data, length);
    for (size_t i = 0; i < length; i++) {
        lines += data[i] == '\n';
    }
    s->lines = kcalloc(lines, sizeof(*s->lines), GFP_KERNEL);
    if (!s->lines) {
        kfree(data);
        return shell_error(in->sh, "%s", strerror(ENOMEM));
    }
    s->count = 0;
    for (char *line = data; line < data + length;) {
        char *end = line + strcspn(line, "\n");
        s->lines[s->count++] = line;
        line = end < data + length ? end + 1 : end;
        *end = '\0';
    }
    sort_lines(s);
    for (size_t i = 0; i < s->count && !shell_interrupted(in->sh); i++) {
        if (!s->unique || i == 0 || strcmp(s->lines[i - 1], s->lines[i]) != 0) {
            shell_printf(in->sh, "%s\n", s->lines[i]);
        }
    }
    kfree(s->lines);
    kfree(data);
    return 0;
}

static int cmd_sort(struct shell *sh, int argc, char **argv)
{
    struct sort s = {.numeric = false};
    bool *const options[] = {&s.numeric, &s.reverse, &s.unique};
    int i = text_options(sh, argc, argv, "nru", options);
    if (i < 0) {
        return STATUS_USAGE;
    }
    if (argc - i > 1) {
        return shell_usage(sh, "one file at most: put several together with cat");
    }
    return input_each(sh, argc, argv, i, sort_input, &s);
}

// ---- seq, yes -----------------------------------------------------------------------------------

static int cmd_seq(struct shell *sh, int argc, char **argv)
{
    int32_t numbers[3] = {1, 1, 1}; // first, step, last
    if (argc < 2 || argc > 4) {
        return shell_usage(sh, "one to three numbers");
    }
    static const uint8_t where[3][3] = {{2}, {0, 2}, {0, 1, 2}};
    for (int i = 1; i < argc; i++) {
        if (kstrtos32(argv[i], 10, &numbers[where[argc - 2][i - 1]]) != 0) {
            return shell_usage(sh, "%s: a number is %d to %d", argv[i], INT32_MIN, INT32_MAX);
        }
    }
    if (numbers[1] == 0) {
        return shell_usage(sh, "a step of 0 never arrives");
    }
    for (int64_t n = numbers[0]; numbers[1] > 0 ? n <= numbers[2] : n >= numbers[2];
         n += numbers[1]) {
        if (shell_interrupted(sh)) {
            return STATUS_FAILED;
        }
        shell_printf(sh, "%lld\n", (long long)n);
    }
    return 0;
}

static int cmd_yes(struct shell *sh, int argc, char **argv)
{
    while (!shell_interrupted(sh)) {
        shell_printf(sh, "%s\n", argc > 1 ? argv[1] : "y");
    }
    return 0;
}

COMMAND("head", cmd_head, "head [-n LINES] [FILE]...", "the first lines, 10 if not said otherwise");
COMMAND("tail", cmd_tail, "tail [-n LINES] [FILE]...", "the last lines, 10 if not said otherwise");
COMMAND(
    "grep", cmd_grep, "grep [-v] [-i] [-c] [-n] [-q] PATTERN [FILE]...",
    "lines that match\n-v: that don't. -i: a is A. -c: how many. -n: with numbers. -q: only the "
    "status.\nPATTERN knows ^ $ . [a-z] [^a-z] * and \\.");
COMMAND("wc", cmd_wc, "wc [-l] [-w] [-c] [FILE]...", "count lines, words, bytes");
COMMAND("tee", cmd_tee, "tee [-a] [FILE]...", "copy the input to files and on to the output");
COMMAND("sort", cmd_sort, "sort [-n] [-r] [-u] [FILE]",
        "sort lines\n-n: by their numbers. -r: backwards. -u: each once.");
COMMAND("seq", cmd_seq, "seq [FIRST [STEP]] LAST", "count");
COMMAND("yes", cmd_yes, "yes [WORD]", "say it for ever");
