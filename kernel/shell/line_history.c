// Older lines: kept, brought back one by one, and searched.
//
//   ^R        (search 'ech') echo hello     the newest line that holds what was typed of it
//   ^R again                                the next older one; ^G gives up; any other key takes it
//
// The line that was being typed is kept meanwhile (struct line: edited).
//
// Context: one thread at a time; pure. Previous: line_screen.c.
#include <lib/format.h>
#include <lib/string.h>
#include "line_internal.h"

// ---- kept ---------------------------------------------------------------------------------------

void history_add(struct history *history, const char *line)
{
    const char *last = history_get(history, 0);
    if (*line == '\0' || (last && strcmp(last, line) == 0)) {
        return;
    }
    strscpy(history->lines[history->count++ % LINE_HISTORY], line, LINE_MAX + 1);
}

const char *history_get(const struct history *history, unsigned n)
{
    if (n >= history->count || n >= LINE_HISTORY) {
        return NULL;
    }
    return history->lines[(history->count - 1 - n) % LINE_HISTORY];
}

void line_recall(struct line *l, unsigned n)
{
    const char *text = n == 0 ? l->edited : l->history ? history_get(l->history, n - 1) : NULL;
    if (!text || n == l->recall) {
        return;
    }
    if (l->recall == 0) {
        memcpy(l->edited, l->text, l->length + 1);
        text = n == 0 ? l->edited : text;
    }
    l->recall = n;
    line_replace(l, text);
}

// ---- searched -----------------------------------------------------------------------------------

static void line_search_show(struct line *l, const char *text)
{
    line_hide(l);
    if (text) {
        strscpy(l->text, text, sizeof(l->text));
        l->length = (unsigned)strlen(l->text);
        l->cursor = l->length;
    }
    snprintf(l->search_prompt, sizeof(l->search_prompt), "(search '%s'%s) ", l->needle,
             text || l->needle[0] == '\0' ? "" : ": none");
    line_show(l);
}

// The next older line than the n-th that holds the needle.
static void line_search_from(struct line *l, unsigned n)
{
    const char *text;
    for (; l->history && (text = history_get(l->history, n)) != NULL; n++) {
        if (strstr(text, l->needle)) {
            l->recall = n + 1;
            line_search_show(l, text);
            return;
        }
    }
    line_search_show(l, NULL);
}

void line_search_begin(struct line *l)
{
    line_hide(l);
    memcpy(l->edited, l->text, l->length + 1);
    l->searching = true;
    l->recall = 0;
    l->needle[0] = '\0';
    line_search_show(l, l->text);
}

static void line_search_end(struct line *l)
{
    line_hide(l);
    l->searching = false;
    line_show(l);
}

bool line_search_key(struct line *l, char key)
{
    size_t length = strlen(l->needle);
    if (key == KEY_R) {
        line_search_from(l, l->recall);
    } else if ((key == KEY_BS || key == KEY_DEL) && length > 0) {
        l->needle[length - 1] = '\0';
        line_search_from(l, 0);
    } else if (key >= ' ' && key < KEY_DEL) {
        if (length + 1 < sizeof(l->needle)) {
            l->needle[length] = key;
            l->needle[length + 1] = '\0';
        }
        line_search_from(l, l->recall == 0 ? 0 : l->recall - 1);
    } else {
        line_search_end(l);
        if (key == KEY_G) {
            l->recall = 0;
            line_replace(l, l->edited);
            return true;
        }
        return false;
    }
    return true;
}
