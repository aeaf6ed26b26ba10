// From a path to a record. There is no tree: the records' paths are the tree, and a directory
// exists because some path goes through it. A walk compares component by component; '*' in a record
// stands for any number that its `next` knows.
//
//   records:  "irq/*/spurious"  "irq/default_smp_affinity"  "version"
//   "irq/24"   goes through the first: a directory, with index 24
//   "irq/24/x" nobody: nothing
//
// Some fifty records and paths of three components: looking at all of them each time is quick
// enough and has nothing to keep in order.
//
// Context: any that the records' functions allow; pure otherwise.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include "lookup.h"

// Decimal, without sign and leading zeros, so that each number has one name.
static bool proc_number(const char *s, size_t length, unsigned long *number)
{
    if (length == 0 || length > 9 || (length > 1 && s[0] == '0')) {
        return false;
    }
    *number = 0;
    for (size_t i = 0; i < length; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return false;
        }
        *number = *number * 10 + (unsigned long)(s[i] - '0');
    }
    return true;
}

// Past the component and its slash.
static const char *proc_skip(const char *path, size_t length)
{
    path += length;
    return *path == '/' ? path + 1 : path;
}

// Walks as far as the two paths agree: what is left of each is "" where it came to its end. False
// when they part before that.
static bool proc_walk(const struct proc_file *record, const char **record_left, const char **left,
                      unsigned long *index)
{
    const char *pattern = record->path, *path = *left;
    while (*pattern != '\0' && *path != '\0') {
        size_t pattern_length = strcspn(pattern, "/"), length = strcspn(path, "/");
        if (pattern_length == 1 && *pattern == '*') {
            if (!proc_number(path, length, index) || !record->next ||
                record->next(*index) != (long)*index) {
                return false;
            }
        } else if (pattern_length != length || memcmp(pattern, path, length) != 0) {
            return false;
        }
        pattern = proc_skip(pattern, pattern_length);
        path = proc_skip(path, length);
    }
    *record_left = pattern;
    *left = path;
    return true;
}

static bool proc_has_name(const struct proc_file *record, unsigned long index, const char *name)
{
    const char *other;
    for (unsigned k = 0; record->names && (other = record->names(index, k)) != NULL; k++) {
        if (strcmp(other, name) == 0) {
            return true;
        }
    }
    return false;
}

void proc_lookup(const struct proc_set *set, const char *path, struct proc_node *node)
{
    *node = (struct proc_node){.kind = *path == '\0' ? PROC_DIRECTORY : PROC_NOTHING};
    for (const struct proc_file *r = set->start; r < set->end; r++) {
        const char *record_left, *left = path;
        unsigned long index = 0;
        if (!proc_walk(r, &record_left, &left, &index)) {
            continue;
        }
        if (*left == '\0' && *record_left == '\0' && r->show) {
            *node = (struct proc_node){PROC_REGULAR, r, index};
            return;
        }
        if (*left == '\0') {
            *node = (struct proc_node){PROC_DIRECTORY, NULL, index};
        } else if (*record_left == '\0' && proc_has_name(r, index, left)) {
            *node = (struct proc_node){PROC_NAME, r, index};
        }
    }
}

// What a record puts into the directory: the next component of its path, "*", or NULL for nothing.
static const char *proc_child(const struct proc_file *record, const char *path, size_t *length)
{
    const char *record_left, *left = path;
    unsigned long index = 0;
    if (!proc_walk(record, &record_left, &left, &index) || *left != '\0' || *record_left == '\0') {
        return NULL;
    }
    *length = strcspn(record_left, "/");
    return record_left;
}

// Several records go through the same child: the first of them counts.
static bool proc_child_is_new(const struct proc_set *set, const char *path,
                              const struct proc_file *record, const char *child, size_t length)
{
    for (const struct proc_file *r = set->start; r < record; r++) {
        size_t other_length;
        const char *other = proc_child(r, path, &other_length);
        if (other && other_length == length && memcmp(other, child, length) == 0) {
            return false;
        }
    }
    return true;
}

static int proc_give(const char *from, size_t length, char *name, size_t size)
{
    if (length >= size) {
        return -ENAMETOOLONG;
    }
    memcpy(name, from, length);
    name[length] = '\0';
    return 0;
}

// The names that a record tells of itself; *k counts down through them.
static const char *proc_own_name(const struct proc_file *record, const char *path, unsigned *k)
{
    const char *record_left, *left = path, *name;
    unsigned long index = 0;
    if (!record->names || !proc_walk(record, &record_left, &left, &index) || *left != '\0' ||
        *record_left != '\0') {
        return NULL;
    }
    for (unsigned own = 0; (name = record->names(index, own)) != NULL; own++) {
        if ((*k)-- == 0) {
            return name;
        }
    }
    return NULL;
}

static int proc_list_numbers(const struct proc_file *record, unsigned k, char *name, size_t size)
{
    long number = record->next(0);
    while (number >= 0 && k-- != 0) {
        number = record->next((unsigned long)number + 1);
    }
    return number >= 0 && snprintf(name, size, "%ld", number) < (int)size ? 0 : -ENOENT;
}

int proc_list(const struct proc_set *set, const char *path, unsigned k, char *name, size_t size)
{
    struct proc_node node;
    proc_lookup(set, path, &node);
    if (node.kind != PROC_DIRECTORY) {
        return node.kind == PROC_REGULAR ? -ENOTDIR : -ENOENT;
    }
    const struct proc_file *numbers = NULL;
    for (const struct proc_file *r = set->start; r < set->end; r++) {
        const char *own = proc_own_name(r, path, &k);
        if (own) {
            return proc_give(own, strlen(own), name, size);
        }
        size_t length;
        const char *child = proc_child(r, path, &length);
        if (!child || !proc_child_is_new(set, path, r, child, length)) {
            continue;
        }
        if (length == 1 && *child == '*') {
            numbers = r;
        } else if (k-- == 0) {
            return proc_give(child, length, name, size);
        }
    }
    return numbers && numbers->next ? proc_list_numbers(numbers, k, name, size) : -ENOENT;
}
