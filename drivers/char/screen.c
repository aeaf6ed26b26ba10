// The screen as an output of the console.
//
// Text changes cells in memory (vt.c), which is quick; a delayed work item then draws those that
// differ from what is shown. So a command that prints ten thousand lines does not wait for ten
// thousand scrolls of a framebuffer: it is drawn fifty times a second at most, with whatever the
// cells hold then.
//
//   tty_write ──> vt.cells ── schedule_delayed_work ──> screen_update ── ops->draw ──> VGA, pixels
//                                                       (cells that differ from shown[])
//
// In a panic there is no work item, and cells are drawn at once.
//
// Context: write and the work item in threads, under the mutex; polled in any.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <defer/work.h>
#include <dev/tty.h>
#include <char/screen.h>
#include "screen_ops.h"
#include "vt.h"

enum { SCREEN_UPDATE_MS = 20 };

static struct {
    const struct screen_ops *ops; // I
    struct mutex mutex;
    struct vt vt;     // L
    vt_cell_t *shown; // L: what is on the screen
    unsigned cursor;  // L: cell that shows the cursor
    struct delayed_work work;
    struct tty_output output;
} screen;

// The cursor is its cell with ink and paper exchanged.
static vt_cell_t screen_cell(unsigned i)
{
    vt_cell_t cell = screen.vt.cells[i];
    if (i == screen.vt.row * screen.vt.columns + screen.vt.column) {
        cell = (vt_cell_t)((cell & 0x88ff) | (cell & 0x0700) << 4 | (cell & 0x7000) >> 4);
    }
    return cell;
}

static void screen_draw_changes(void)
{
    unsigned columns = screen.vt.columns;
    for (unsigned i = 0; i < columns * screen.vt.rows; i++) {
        vt_cell_t cell = screen_cell(i);
        if (cell != screen.shown[i]) {
            screen.shown[i] = cell;
            screen.ops->draw(i % columns, i / columns, cell);
        }
    }
}

static void screen_update(struct work_struct *work)
{
    (void)work;
    mutex_lock(&screen.mutex);
    screen_draw_changes();
    mutex_unlock(&screen.mutex);
}

static size_t screen_write(struct tty_output *output, const char *data, size_t size)
{
    (void)output;
    mutex_lock(&screen.mutex);
    vt_write(&screen.vt, data, size);
    mutex_unlock(&screen.mutex);
    schedule_delayed_work(&screen.work, msecs_to_jiffies(SCREEN_UPDATE_MS));
    return size;
}

static void screen_flush(struct tty_output *output)
{
    (void)output;
    screen_update(NULL);
}

static void screen_write_polled(struct tty_output *output, const char *data, size_t size)
{
    (void)output;
    vt_write(&screen.vt, data, size);
    screen_draw_changes();
}

// The lines that were logged before there was a screen.
static void screen_show_log(void)
{
    struct log_line line;
    for (uint64_t next = log_first_sequence(); log_read(&next, &line);) {
        char text[320];
        if (line.level <= log_console_level && log_format(&line, text, sizeof(text)) > 0) {
            vt_write(&screen.vt, text, strlen(text));
            vt_write(&screen.vt, "\r\n", 2);
        }
    }
}

static int screen_allocate(unsigned columns, unsigned rows)
{
    vt_cell_t *cells = kcalloc((size_t)columns * rows, sizeof(vt_cell_t), GFP_KERNEL);
    screen.shown = kzalloc((size_t)columns * rows * sizeof(vt_cell_t), GFP_KERNEL);
    if (!cells || !screen.shown) {
        kfree(cells);
        kfree(screen.shown);
        return -ENOMEM;
    }
    vt_init(&screen.vt, cells, columns, rows);
    return 0;
}

void screen_init(const struct boot_info *boot)
{
    static const struct screen_ops *const kinds[] = {&screen_fbcon, &screen_vga_text};
    unsigned columns = 0, rows = 0;
    for (size_t i = 0; i < ARRAY_SIZE(kinds) && !screen.ops; i++) {
        if (kinds[i]->probe(&boot->framebuffer, &columns, &rows)) {
            screen.ops = kinds[i];
        }
    }
    if (!screen.ops) {
        pr_info("screen: none, the console is the serial line");
        return;
    }
    if (screen_allocate(columns, rows) != 0) {
        pr_warn("screen: no memory for %ux%u characters, it stays dark", columns, rows);
        return;
    }
    mutex_init(&screen.mutex, "screen");
    INIT_DELAYED_WORK(&screen.work, screen_update);
    pr_info("screen: %s, %ux%u characters", screen.ops->name, columns, rows);
    screen_show_log();
    screen.output = (struct tty_output){
        .name = screen.ops->name,
        .write = screen_write,
        .flush = screen_flush,
        .write_polled = screen_write_polled,
    };
    tty_add_output(&screen.output);
    schedule_delayed_work(&screen.work, 0);
}
