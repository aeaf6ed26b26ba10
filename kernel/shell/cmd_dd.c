// dd: copies blocks between files and disks, and tells how fast, as coreutils does.
//
// Disks are read and written through the page cache, unless iflag=direct or oflag=direct say
// otherwise: then each block is one transfer, so bs= is what the driver sees. That makes
// `dd if=/dev/sda of=/dev/null bs=4K count=1000 iflag=direct` a measurement of a disk's interrupt
// path, and bs=1M one of its DMA.
//
// Context: the command's thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <core/clock.h>
#include <mm/slab.h>

#include "source.h"

enum { DD_MAX_BLOCK = 4 << 20, DD_USUAL_BLOCK = 512 };

struct dd {
    struct shell *sh;
    const char *input, *output; // NULL: the command's own
    uint64_t block, count, skip, seek;
    uint64_t rest;                            // bytes of a last block, after `count` whole ones
    bool full_blocks, append, keep, sync_end; // iflag, oflag, conv
    unsigned in_flags, out_flags;             // OPEN_*, of iflag and oflag
    bool count_bytes, skip_bytes, seek_bytes; // bytes, not blocks
    bool no_status, no_rate;

    struct source from;
    struct file *to; // NULL: the command's output
    uint64_t in_whole, in_part, out_whole, out_part, bytes;
};

// ---- operands -----------------------------------------------------------------------------------

// "512", "4K", "1M", "2x512", "1kB". False: not a number, or too large.
static bool dd_number(const char *s, uint64_t *value)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } suffixes[] = {
        {"KiB", 1 << 10}, {"MiB", 1 << 20},   {"GiB", 1 << 30}, {"kB", 1000},   {"KB", 1000},
        {"MB", 1000000},  {"GB", 1000000000}, {"K", 1 << 10},   {"k", 1 << 10}, {"M", 1 << 20},
        {"G", 1 << 30},   {"c", 1},           {"w", 2},         {"b", 512},     {"B", 1},
    };
    uint64_t product = 1;
    do {
        uint64_t number = 0;
        if (*s < '0' || *s > '9') {
            return false;
        }
        for (; *s >= '0' && *s <= '9'; s++) {
            if (__builtin_mul_overflow(number, 10, &number) ||
                __builtin_add_overflow(number, (uint64_t)(*s - '0'), &number)) {
                return false;
            }
        }
        for (unsigned i = 0; i < ARRAY_SIZE(suffixes); i++) {
            if (str_starts(s, suffixes[i].name)) {
                if (__builtin_mul_overflow(number, suffixes[i].factor, &number)) {
                    return false;
                }
                s += strlen(suffixes[i].name);
                break;
            }
        }
        if (__builtin_mul_overflow(product, number, &product)) {
            return false;
        }
    } while (*s == 'x' && *s++ != '\0'); // "2x" lacks a factor and is refused above
    *value = product;
    return *s == '\0' && product <= INT64_MAX;
}

static bool dd_word_is(const char *s, size_t length, const char *word)
{
    return strlen(word) == length && strncmp(s, word, length) == 0;
}

// One word of iflag=, oflag=, conv= or status=. False: unknown. nonblock and noctty mean nothing
// here.
static bool dd_flag(struct dd *dd, const char *key, const char *word, size_t length)
{
    bool in = str_starts(key, "iflag"), out = str_starts(key, "oflag");
    if (str_starts(key, "status")) {
        dd->no_status = dd_word_is(word, length, "none");
        dd->no_rate = dd->no_status || dd_word_is(word, length, "noxfer");
        return dd->no_rate;
    }
    if (str_starts(key, "conv")) {
        bool end = dd_word_is(word, length, "fsync") || dd_word_is(word, length, "fdatasync");
        bool keep = dd_word_is(word, length, "notrunc");
        dd->sync_end = dd->sync_end || end;
        dd->keep = dd->keep || keep;
        return end || keep;
    }
    if (in && dd_word_is(word, length, "fullblock")) {
        dd->full_blocks = true;
        return true;
    }
    if (in && dd_word_is(word, length, "count_bytes")) {
        dd->count_bytes = true;
        return true;
    }
    if (in && dd_word_is(word, length, "skip_bytes")) {
        dd->skip_bytes = true;
        return true;
    }
    if (out && dd_word_is(word, length, "seek_bytes")) {
        dd->seek_bytes = true;
        return true;
    }
    if (out && dd_word_is(word, length, "append")) {
        dd->append = true;
        return true;
    }
    unsigned flag = dd_word_is(word, length, "direct") ? OPEN_DIRECT
                    : dd_word_is(word, length, "sync") || dd_word_is(word, length, "dsync")
                        ? OPEN_SYNC
                        : 0;
    *(out ? &dd->out_flags : &dd->in_flags) |= flag;
    return flag != 0 || dd_word_is(word, length, "nonblock") || dd_word_is(word, length, "noctty");
}

static bool dd_flags(struct dd *dd, const char *key, const char *list)
{
    do {
        size_t length = strcspn(list, ",");
        if (!dd_flag(dd, key, list, length)) {
            return false;
        }
        list += length;
    } while (*list++ == ',');
    return true;
}

// 0, or the exit status after a message.
static int dd_operand(struct dd *dd, const char *word)
{
    static const char *const flag_keys[] = {"iflag=", "oflag=", "conv=", "status="};
    if (str_starts(word, "if=")) {
        dd->input = word + 3;
        return 0;
    }
    if (str_starts(word, "of=")) {
        dd->output = word + 3;
        return 0;
    }
    struct {
        const char *key;
        uint64_t *value;
        bool *bytes; // set by a B anywhere in it: "5B", but "1kB" too
    } numbers[] = {
        {"bs=", &dd->block, NULL},
        {"count=", &dd->count, &dd->count_bytes},
        {"skip=", &dd->skip, &dd->skip_bytes},
        {"iseek=", &dd->skip, &dd->skip_bytes},
        {"seek=", &dd->seek, &dd->seek_bytes},
        {"oseek=", &dd->seek, &dd->seek_bytes},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        if (!str_starts(word, numbers[i].key)) {
            continue;
        }
        const char *number = word + strlen(numbers[i].key);
        if (numbers[i].bytes != NULL && strchr(number, 'B') != NULL) {
            *numbers[i].bytes = true;
        }
        return dd_number(number, numbers[i].value)
                   ? 0
                   : shell_error(dd->sh, "%s: not a number from 0 to 2^63", word);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(flag_keys); i++) {
        if (str_starts(word, flag_keys[i])) {
            return dd_flags(dd, flag_keys[i], word + strlen(flag_keys[i]))
                       ? 0
                       : shell_error(dd->sh, "%s: not known here (see help dd)", word);
        }
    }
    return shell_usage(dd->sh, "no such operand: %s", word);
}

// ---- the copy -----------------------------------------------------------------------------------

static const char *dd_output_name(const struct dd *dd)
{
    return dd->output == NULL ? "-" : dd->output;
}

// Writes all of it. 0 or -errno; *written says how much went out. A last piece that is no whole
// block goes through the page cache, though all others did not, and is synced for that: as
// coreutils'.
static int dd_write(struct dd *dd, const uint8_t *data, size_t size, size_t *written)
{
    *written = 0;
    if (dd->to == NULL) {
        int error = shell_write(dd->sh, data, size);
        *written = error == 0 ? size : 0;
        return error;
    }
    if ((dd->out_flags & OPEN_DIRECT) && size < dd->block) {
        vfs_end_direct(dd->to);
        dd->sync_end = true;
    }
    while (*written < size) {
        long count = vfs_write(dd->to, data + *written, size - *written);
        if (count <= 0) {
            return count == 0 ? -ENOSPC : (int)count;
        }
        *written += (size_t)count;
    }
    return 0;
}

// "error reading", "failed to open". Nothing is said of -EINTR: who typed ^C knows.
static int dd_fail(struct dd *dd, const char *doing, const char *name, int error)
{
    if (error == -EINTR) {
        return 130;
    }
    return shell_error(dd->sh, "%s '%s': %s", doing, name, strerror(error));
}

static int dd_copy(struct dd *dd, uint8_t *buffer)
{
    for (uint64_t i = 0; i <= dd->count; i++) {
        size_t size = (size_t)(i < dd->count ? dd->block : dd->rest), written;
        if (size == 0) {
            break;
        }
        long count = dd->full_blocks ? source_read(&dd->from, buffer, size)
                                     : source_read_some(&dd->from, buffer, size);
        if (count < 0) {
            return dd_fail(dd, "error reading", dd->from.name, (int)count);
        }
        if (count == 0) {
            break;
        }
        *((uint64_t)count == dd->block ? &dd->in_whole : &dd->in_part) += 1;
        int error = dd_write(dd, buffer, (size_t)count, &written);
        dd->bytes += written;
        if (written != 0) {
            *(written == dd->block ? &dd->out_whole : &dd->out_part) += 1;
        }
        if (error != 0) {
            return dd_fail(dd, "error writing", dd_output_name(dd), error);
        }
    }
    int error = dd->sync_end && dd->to != NULL ? vfs_sync(dd->to) : 0;
    return error != 0 ? dd_fail(dd, "error flushing", dd_output_name(dd), error) : 0;
}

// ---- its ends -----------------------------------------------------------------------------------

// Less than is to be left out is no error, unless it is a disk. 0, or the exit status after a
// message.
static int dd_skip_input(struct dd *dd)
{
    const char *name = dd->from.file == NULL ? "'standard input'" : dd->from.name;
    int error = dd->skip == 0 ? 0 : source_skip(&dd->from, dd->skip);
    if (error == SOURCE_ENDED && !dd->no_status) {
        shell_error(dd->sh, "%s: cannot skip to specified offset", name);
    }
    if (error >= 0) {
        return 0;
    }
    return error == -EINTR ? 130
                           : shell_error(dd->sh, "%s: cannot skip: %s", name, strerror(error));
}

static int dd_seek_output(struct dd *dd)
{
    const char *name = dd->to == NULL ? "'standard output'" : dd->output;
    if (dd->seek == 0) {
        return 0;
    }
    int error = dd->to == NULL ? -ESPIPE : vfs_seek(dd->to, dd->seek);
    return error == 0 ? 0 : shell_error(dd->sh, "%s: cannot seek: %s", name, strerror(error));
}

// As coreutils: what lies before seek= stays, what lies behind goes, unless conv=notrunc, though it
// be appended to. A disk, and what else has no size that can be set, stays as it is.
static int dd_cut_output(struct dd *dd)
{
    if (dd->append && !dd->keep) {
        shell_error(dd->sh, "you probably want conv=notrunc with oflag=append");
    }
    int error = dd->to == NULL || dd->keep || dd->seek == 0 ? 0 : vfs_truncate(dd->to, dd->seek);
    return error == 0 || error == -EINVAL
               ? 0
               : shell_error(dd->sh, "failed to truncate to %llu bytes in output file '%s': %s",
                             (unsigned long long)dd->seek, dd->output, strerror(error));
}

static int dd_open_output(struct dd *dd)
{
    unsigned flags = OPEN_WRITE | OPEN_CREATE | dd->out_flags;
    if (dd->output == NULL) {
        return dd->out_flags & OPEN_DIRECT ? -EINVAL : 0; // no disk
    }
    flags |= dd->append ? OPEN_APPEND : 0;
    flags |= !dd->keep && dd->seek == 0 ? OPEN_TRUNCATE : 0;
    return vfs_open(dd->output, flags, &dd->to);
}

// ---- the report ---------------------------------------------------------------------------------

// Six significant digits, as printf's %g: "0.0070368", "7.6875e-05", "12.3457".
static void dd_show_seconds(struct text *t, uint64_t ns)
{
    char digits[24];
    int shift = 0, count = 0;
    uint64_t value = ns;
    while (value >= 1000000) {
        value = (value + 5) / 10;
        shift++;
    }
    while (value != 0 && value % 10 == 0) {
        value /= 10;
        shift++;
    }
    struct text d = TEXT_INIT(digits);
    text_printf(&d, "%llu", (unsigned long long)value);
    count = (int)d.length;
    int exponent = count - 1 + shift - 9; // of the first digit
    if (value == 0) {
        text_putc(t, '0');
    } else if (exponent < -4) {
        text_printf(t, "%c%s%se-%02d", digits[0], count > 1 ? "." : "", digits + 1, -exponent);
    } else if (exponent < 0) {
        text_puts(t, "0.");
        for (int i = -1; i > exponent; i--) {
            text_putc(t, '0');
        }
        text_puts(t, digits);
    } else {
        for (int i = 0; i < count || i <= exponent; i++) {
            text_puts(t, i == exponent + 1 ? "." : "");
            text_putc(t, i < count ? digits[i] : '0');
        }
    }
}

// "3.0 MB", "426 MB": one decimal below `decimal_below`, rounded to the nearest (up, for a size, is
// coreutils' way: sizes are exact).
static void dd_show_scaled(struct text *t, uint64_t value, unsigned base, unsigned decimal_below)
{
    static const char *const si[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    static const char *const iec[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    uint64_t divisor = 1;
    while (unit < 6 && value / divisor >= base) {
        divisor *= base;
        unit++;
    }
    uint64_t whole = value / divisor;
    uint64_t tenths = unit == 0 ? 0 : (value % divisor * 10 + divisor / 2) / divisor;
    if (tenths == 10) {
        whole++;
        tenths = 0;
    }
    const char *name = base == 1000 ? si[unit] : iec[unit];
    if (unit == 0 || whole >= decimal_below) {
        whole += unit != 0 && tenths >= 5;
        text_printf(t, "%llu %s", (unsigned long long)whole, name);
    } else {
        text_printf(t, "%llu.%llu %s", (unsigned long long)whole, (unsigned long long)tenths, name);
    }
}

static uint64_t dd_rate(uint64_t bytes, uint64_t ns)
{
    // bytes * 10^9 / ns without overflow: a loss below a millionth does not show.
    while (bytes > UINT64_MAX / 1000000000) {
        bytes >>= 1;
        ns >>= 1;
    }
    return bytes * 1000000000 / max(ns, (uint64_t)1);
}

// To the error stream, where coreutils has it, so that `dd of=...| ...` stays clean.
static void dd_report(const struct dd *dd, uint64_t ns)
{
    char buffer[256];
    struct text t = TEXT_INIT(buffer);
    if (dd->no_status) {
        return;
    }
    text_printf(&t, "%llu+%llu records in\n%llu+%llu records out\n",
                (unsigned long long)dd->in_whole, (unsigned long long)dd->in_part,
                (unsigned long long)dd->out_whole, (unsigned long long)dd->out_part);
    if (!dd->no_rate) {
        text_printf(&t, "%llu byte%s", (unsigned long long)dd->bytes, dd->bytes == 1 ? "" : "s");
        if (dd->bytes >= 1000) {
            text_puts(&t, " (");
            dd_show_scaled(&t, dd->bytes, 1000, 10);
            text_puts(&t, ", ");
            dd_show_scaled(&t, dd->bytes, 1024, 10);
            text_puts(&t, ")");
        }
        text_puts(&t, " copied, ");
        dd_show_seconds(&t, ns);
        text_puts(&t, " s, ");
        dd_show_scaled(&t, dd_rate(dd->bytes, ns), 1000, 100);
        text_puts(&t, "/s\n");
    }
    struct shell error_side = *dd->sh;
    error_side.out = dd->sh->err;
    shell_printf(&error_side, "%s", buffer);
}

// ---- the command --------------------------------------------------------------------------------

static int dd_run_open(struct dd *dd, uint8_t *buffer)
{
    int status = dd_cut_output(dd);
    if (status != 0) {
        return status;
    }
    uint64_t start_ns = clock_ns();
    status = dd_skip_input(dd);
    status = status != 0 ? status : dd_seek_output(dd);
    status = status != 0 ? status : dd_copy(dd, buffer);
    dd_report(dd, clock_ns() - start_ns);
    return status;
}

static int dd_run(struct dd *dd, uint8_t *buffer)
{
    int error = source_open_flags(&dd->from, dd->sh, dd->input, dd->in_flags);
    if (error != 0) {
        return dd_fail(dd, "failed to open", dd->from.name, error);
    }
    error = dd_open_output(dd);
    int status = error != 0 ? dd_fail(dd, "failed to open", dd_output_name(dd), error)
                            : dd_run_open(dd, buffer);
    if (dd->to != NULL) {
        vfs_close(dd->to);
    }
    source_close(&dd->from);
    return status;
}

// A number of units becomes one of bytes. False: too large.
static bool dd_bytes(uint64_t *number, uint64_t unit)
{
    return !__builtin_mul_overflow(*number, unit, number) && *number <= INT64_MAX;
}

static int cmd_dd(struct shell *sh, int argc, char **argv)
{
    struct dd dd = {.sh = sh, .block = DD_USUAL_BLOCK, .count = UINT64_MAX};
    for (int i = 1; i < argc; i++) {
        int status = dd_operand(&dd, argv[i]);
        if (status != 0) {
            return status;
        }
    }
    if (dd.block == 0 || dd.block > DD_MAX_BLOCK) {
        return shell_error(sh, "bs=%llu: must be 1 to %u (4M)", (unsigned long long)dd.block,
                           DD_MAX_BLOCK);
    }
    if (!dd_bytes(&dd.skip, dd.skip_bytes ? 1 : dd.block) ||
        !dd_bytes(&dd.seek, dd.seek_bytes ? 1 : dd.block)) {
        return shell_error(sh, "skip= or seek= times bs= is too large");
    }
    if (dd.count_bytes) {
        dd.rest = dd.count % dd.block;
        dd.count /= dd.block;
    }
    uint8_t *buffer = kmalloc((size_t)dd.block, GFP_KERNEL);
    if (buffer == NULL) {
        return shell_error(sh, "no memory for a block of %llu bytes", (unsigned long long)dd.block);
    }
    int status = dd_run(&dd, buffer);
    kfree(buffer);
    return status;
}

COMMAND(
    "dd", cmd_dd,
    "dd [if=FILE] [of=FILE] [bs=N] [count=N] [skip=N] [seek=N] [iflag=..] [oflag=..] [conv=..]",
    "copy blocks, and tell how fast\nbs: bytes a block, up to 4M (512). count: blocks. skip, "
    "seek: blocks to leave out of the input, of the output; also iseek, oseek.\n"
    "N: 512, 4K, 1M, 2x512. With a B in it, 5B, 1kB, it is bytes, not blocks.\n"
    "iflag: fullblock direct count_bytes skip_bytes. oflag: append direct sync dsync seek_bytes.\n"
    "direct: past the page cache, whole blocks of the disk. sync: each write "
    "waits for the medium.\n"
    "conv: notrunc fsync fdatasync. status=none, status=noxfer: say less.");
