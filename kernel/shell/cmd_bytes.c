// Commands that look at bytes: hexdump as in BSD and util-linux, sha256sum as in coreutils.
//
// Context: the command's thread.
#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <mm/slab.h>

#include "source.h"

enum { BYTES_BUFFER = 128 << 10, DUMP_LINE = 16 };

// ---- hexdump ------------------------------------------------------------------------------------

struct dump {
    struct shell *sh;
    bool canonical; // -C
    bool all;       // -v: no '*' for repeated lines
    uint64_t offset, left;
    uint8_t last[DUMP_LINE]; // the line before
    bool have_last, starred;
};

static void dump_canonical(struct text *t, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < DUMP_LINE; i++) {
        text_puts(t, i % 8 == 0 ? "  " : " ");
        if (i < count) {
            text_printf(t, "%02x", bytes[i]);
        } else {
            text_puts(t, "  ");
        }
    }
    text_puts(t, "  |");
    for (size_t i = 0; i < count; i++) {
        text_putc(t, bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char)bytes[i] : '.');
    }
    text_puts(t, "|");
}

static void dump_words(struct text *t, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i += 2) {
        text_printf(t, " %04x", i + 1 < count ? get_le16(&bytes[i]) : bytes[i]);
    }
    text_printf(t, "%*s", (int)((DUMP_LINE - ALIGN_UP(count, 2)) / 2 * 5), "");
}

static int dump_line(struct dump *dump, const uint8_t *bytes, size_t count)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);
    uint64_t offset = dump->offset;

    dump->offset += count;
    if (!dump->all && count == DUMP_LINE && dump->have_last &&
        memcmp(bytes, dump->last, DUMP_LINE) == 0) {
        bool first = !dump->starred;
        dump->starred = true;
        return first ? shell_write(dump->sh, "*\n", 2) : 0;
    }
    memcpy(dump->last, bytes, count);
    dump->have_last = count == DUMP_LINE;
    dump->starred = false;
    text_printf(&t, dump->canonical ? "%08llx" : "%07llx", (unsigned long long)offset);
    (dump->canonical ? dump_canonical : dump_words)(&t, bytes, count);
    text_putc(&t, '\n');
    return shell_write(dump->sh, buffer, t.length);
}

static int dump_source(struct dump *dump, struct source *source, uint8_t *buffer)
{
    uint64_t start = dump->offset;
    int error = source_skip(source, dump->offset);
    error = error == SOURCE_ENDED ? 0 : error; // then there is nothing to show
    while (error == 0 && dump->left != 0) {
        size_t want = (size_t)min(dump->left, (uint64_t)BYTES_BUFFER);
        long count = source_read(source, buffer, want);
        if (count <= 0) {
            error = (int)count;
            break;
        }
        dump->left -= (uint64_t)count;
        for (long at = 0; at < count && error == 0; at += DUMP_LINE) {
            error = dump_line(dump, buffer + at, (size_t)min(count - at, (long)DUMP_LINE));
        }
    }
    if (dump->offset != start) {
        shell_printf(dump->sh, dump->canonical ? "%08llx\n" : "%07llx\n",
                     (unsigned long long)dump->offset);
    }
    return error;
}

// Takes "-n 16" and "-n16". False: not this option, or no good number (*bad is set).
static bool dump_option(char **argv, int argc, int *i, char letter, uint64_t *value, bool *bad)
{
    if (argv[*i][0] != '-' || argv[*i][1] != letter) {
        return false;
    }
    const char *number = argv[*i] + 2;
    if (*number == '\0' && *i + 1 < argc) {
        number = argv[++*i];
    }
    *bad = parse_size(number, value) != 0;
    return true;
}

static int bytes_status(struct shell *sh, const struct source *source, int error)
{
    if (error == 0 || error == -EPIPE) {
        return 0;
    }
    return error == -EINTR ? 130 : shell_error(sh, "%s: %s", source->name, strerror(error));
}

static int cmd_hexdump(struct shell *sh, int argc, char **argv)
{
    struct dump dump = {.sh = sh, .left = UINT64_MAX};
    const char *path = NULL;
    bool bad = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-C") == 0) {
            dump.canonical = true;
        } else if (strcmp(argv[i], "-v") == 0) {
            dump.all = true;
        } else if (dump_option(argv, argc, &i, 'n', &dump.left, &bad) ||
                   dump_option(argv, argc, &i, 's', &dump.offset, &bad)) {
            if (bad) {
                return shell_usage(sh, "not a number: %s", argv[min(i, argc - 1)]);
            }
        } else if (argv[i][0] == '-' && argv[i][1] != '\0') {
            return shell_usage(sh, "no such option: %s", argv[i]);
        } else if (path != NULL) {
            return shell_usage(sh, "one file at a time");
        } else {
            path = argv[i];
        }
    }
    struct source source;
    uint8_t *buffer = kmalloc(BYTES_BUFFER, GFP_KERNEL);
    if (buffer == NULL) {
        return shell_error(sh, "no memory");
    }
    int error = source_open(&source, sh, path);
    if (error == 0) {
        error = dump_source(&dump, &source, buffer);
        source_close(&source);
    }
    kfree(buffer);
    return bytes_status(sh, &source, error);
}

// ---- sha256sum ----------------------------------------------------------------------------------

static int sha256_source(struct source *source, uint8_t *buffer, uint8_t digest[SHA256_SIZE])
{
    struct sha256 hash;
    long count;
    sha256_init(&hash);
    while ((count = source_read_some(source, buffer, BYTES_BUFFER)) > 0) {
        sha256_update(&hash, buffer, (size_t)count);
    }
    sha256_final(&hash, digest);
    return (int)count;
}

static int sha256_one(struct shell *sh, const char *path, uint8_t *buffer)
{
    struct source source;
    uint8_t digest[SHA256_SIZE];
    char hex[2 * SHA256_SIZE + 1];
    struct text t = TEXT_INIT(hex);

    int error = source_open(&source, sh, path);
    if (error == 0) {
        error = sha256_source(&source, buffer, digest);
        source_close(&source);
    }
    if (error != 0) {
        return bytes_status(sh, &source, error);
    }
    for (unsigned i = 0; i < SHA256_SIZE; i++) {
        text_printf(&t, "%02x", digest[i]);
    }
    shell_printf(sh, "%s  %s\n", hex, source.name);
    return 0;
}

static int cmd_sha256sum(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            return shell_usage(sh, "no such option: %s", argv[i]);
        }
    }
    uint8_t *buffer = kmalloc(BYTES_BUFFER, GFP_KERNEL);
    if (buffer == NULL) {
        return shell_error(sh, "no memory");
    }
    for (int i = 1; i < argc && status != 130; i++) {
        int one = sha256_one(sh, argv[i], buffer);
        status = one != 0 ? one : status;
    }
    if (argc == 1) {
        status = sha256_one(sh, "-", buffer);
    }
    kfree(buffer);
    return status;
}

COMMAND("hexdump", cmd_hexdump, "hexdump [-C] [-v] [-n LENGTH] [-s OFFSET] [FILE]",
        "show bytes as numbers\n-C: with characters. -v: repeated lines, too, instead of one *.\n"
        "-n, -s: how many, from where; 0x10, 4K and 1M are numbers. Without FILE: what is typed.");
COMMAND("sha256sum", cmd_sha256sum, "sha256sum [FILE]...",
        "SHA-256 digests of files and disks, as coreutils prints them");
