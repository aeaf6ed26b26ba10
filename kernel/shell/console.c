// The line editor at work: between tty, which has bytes, and the shell, which wants lines.
//
// One line is being typed at a time, and three parties may touch the terminal meanwhile: the
// typist's keys, the log's thread and a command in the background. The mutex makes each of them do
// its part whole: hide the line, write, show it again.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <sched/mutex.h>
#include <dev/tty.h>
#include "console.h"
#include "line.h"

unsigned console_columns = 80;

static DEFINE_MUTEX(console_mutex);
static struct line console_line;       // L
static struct history console_history; // L
static bool console_was_shown;         // L: by the log's thread

// Bytes that came after the end of a line wait here for the next one. Of the one thread that reads.
static struct {
    char bytes[256];
    size_t at, count;
} console_keys;

// What a command has not yet taken of the line that was typed for it.
static struct {
    char text[LINE_MAX + 2];
    size_t at, length;
} console_cooked;

static void console_before_log(void)
{
    mutex_lock(&console_mutex);
    console_was_shown = console_line.shown;
    line_hide(&console_line);
}

static void console_after_log(void)
{
    if (console_was_shown) {
        line_show(&console_line);
    }
    mutex_unlock(&console_mutex);
}

void console_init(void)
{
    console_line.put = tty_write;
    console_line.history = &console_history;
    tty_log_before = console_before_log;
    tty_log_after = console_after_log;
}

static int console_fill_keys(void)
{
    if (console_keys.at == console_keys.count) {
        long count = tty_read(console_keys.bytes, sizeof(console_keys.bytes), 0);
        if (count <= 0) {
            return count == 0 ? -EINTR : (int)count;
        }
        console_keys.at = 0;
        console_keys.count = (size_t)count;
    }
    return 0;
}

void console_discard_keys(void)
{
    console_keys.at = console_keys.count;
    console_cooked.at = console_cooked.length;
}

static void console_begin(const char *prompt, bool with_history)
{
    mutex_lock(&console_mutex);
    struct line *l = &console_line;
    strscpy(l->prompt, prompt, sizeof(l->prompt));
    l->plain = tty_plain;
    l->columns = max(console_columns, 20u);
    l->history = with_history ? &console_history : NULL;
    if (*prompt != '\0' && !tty_at_line_start()) {
        tty_write("\n", 1);
    }
    line_begin(l);
    mutex_unlock(&console_mutex);
}

// Feeds keys until something happens.
static enum line_event console_next_event(void)
{
    enum line_event event = LINE_NOTHING;
    while (event == LINE_NOTHING) {
        if (console_fill_keys() != 0) {
            mutex_lock(&console_mutex);
            event = line_key(&console_line, 3);
            mutex_unlock(&console_mutex);
            break;
        }
        mutex_lock(&console_mutex);
        while (event == LINE_NOTHING && console_keys.at < console_keys.count) {
            event = line_key(&console_line, console_keys.bytes[console_keys.at++]);
        }
        mutex_unlock(&console_mutex);
    }
    return event;
}

static void console_complete(void (*complete)(struct line *line))
{
    if (complete) {
        mutex_lock(&console_mutex);
        complete(&console_line);
        mutex_unlock(&console_mutex);
    }
}

long console_read_line(const char *prompt, char *to, void (*complete)(struct line *line))
{
    console_begin(prompt, complete != NULL);
    for (;;) {
        switch (console_next_event()) {
        case LINE_DONE:
            strscpy(to, console_line.text, LINE_MAX + 1);
            return console_line.length;
        case LINE_REFUSED:
            console_printf("sh: line too long: at most %d bytes, nothing was run\n", LINE_MAX);
            return -E2BIG;
        case LINE_INTERRUPT:
            return -EINTR;
        case LINE_END:
            return -EPIPE;
        case LINE_COMPLETE:
            console_complete(complete);
            break;
        default:
            break;
        }
    }
}

void console_history_add(const char *line)
{
    mutex_lock(&console_mutex);
    history_add(&console_history, line);
    mutex_unlock(&console_mutex);
}

void console_history_show(void (*show)(unsigned number, const char *line, void *arg), void *arg)
{
    char line[LINE_MAX + 1];
    for (unsigned n = LINE_HISTORY; n-- > 0;) {
        mutex_lock(&console_mutex);
        const char *text = history_get(&console_history, n);
        if (text) {
            strscpy(line, text, sizeof(line));
        }
        unsigned number = console_history.count - n;
        mutex_unlock(&console_mutex);
        if (text) {
            show(number, line, arg);
        }
    }
}

// A line that was too long was said to be so, and the next one is asked for: a command never sees a
// part of it.
long console_read(char *to, size_t size)
{
    if (console_cooked.at == console_cooked.length) {
        long length;
        do {
            length = console_read_line("", console_cooked.text, NULL);
        } while (length == -E2BIG);
        if (length < 0) {
            return length == -EPIPE ? 0 : length;
        }
        console_cooked.text[length] = '\n';
        console_cooked.length = (size_t)length + 1;
        console_cooked.at = 0;
    }
    size_t count = min(size, console_cooked.length - console_cooked.at);
    memcpy(to, console_cooked.text + console_cooked.at, count);
    console_cooked.at += count;
    return (long)count;
}

void console_write(const char *data, size_t size)
{
    if (!READ_ONCE(console_line.shown)) {
        tty_write(data, size);
        return;
    }
    mutex_lock(&console_mutex);
    bool shown = console_line.shown;
    line_hide(&console_line);
    tty_write(data, size);
    if (shown) {
        if (!tty_at_line_start()) {
            tty_write("\n", 1);
        }
        line_show(&console_line);
    }
    mutex_unlock(&console_mutex);
}

void console_printf(const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (length >= (int)sizeof(text)) {
        length = sizeof(text) - 1;
        text[length - 1] = '\n'; // cut, but a line all the same
    }
    console_write(text, (size_t)length);
}
