// The shell's variables: a small table, for $NAME and for the two that the console obeys.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <sched/mutex.h>
#include <dev/tty.h>
#include "console.h"
#include "job.h"

enum { VARIABLES = 32, VARIABLE_NAME = 32, VARIABLE_VALUE = 256 };
enum { COLUMNS_MIN = 20, COLUMNS_MAX = 1000 };

static DEFINE_MUTEX(variable_mutex);
static struct variable {
    char name[VARIABLE_NAME]; // L: "" is a free one
    char value[VARIABLE_VALUE];
} variables[VARIABLES];

static struct variable *variable_find(const char *name)
{
    for (size_t i = 0; i < VARIABLES; i++) {
        if (strcmp(variables[i].name, name) == 0) {
            return &variables[i];
        }
    }
    return NULL;
}

// What the console does about it. -EINVAL: not a value for this variable.
static int variable_obey(const char *name, const char *value)
{
    uint32_t columns;
    if (strcmp(name, "TERM") == 0) {
        tty_plain = strcmp(value, "dumb") == 0;
    } else if (strcmp(name, "COLUMNS") == 0) {
        if (kstrtou32(value, 10, &columns) != 0 || columns < COLUMNS_MIN || columns > COLUMNS_MAX) {
            return -EINVAL;
        }
        console_columns = columns;
    }
    return 0;
}

static bool variable_is_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return length != 0 && name[length] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

int shell_set_variable(const char *name, const char *value)
{
    if (!variable_is_name(name)) {
        return -EINVAL;
    }
    if (strlen(name) >= VARIABLE_NAME || strlen(value) >= VARIABLE_VALUE) {
        return -E2BIG;
    }
    int error = variable_obey(name, value);
    if (error != 0) {
        return error;
    }
    mutex_lock(&variable_mutex);
    struct variable *v = variable_find(name);
    v = v ? v : variable_find("");
    if (v) {
        strscpy(v->name, name, sizeof(v->name));
        strscpy(v->value, value, sizeof(v->value));
    }
    mutex_unlock(&variable_mutex);
    return v ? 0 : -ENOSPC;
}

const char *shell_get_variable(const char *name, char *to, size_t size)
{
    if (*name == '\0') {
        return NULL;
    }
    mutex_lock(&variable_mutex);
    const struct variable *v = variable_find(name);
    if (v) {
        strscpy(to, v->value, size);
    }
    mutex_unlock(&variable_mutex);
    return v ? to : NULL;
}

bool shell_list_variable(unsigned k, char *to, size_t size)
{
    bool found = false;
    mutex_lock(&variable_mutex);
    for (size_t i = 0; i < VARIABLES && !found; i++) {
        if (variables[i].name[0] != '\0' && k-- == 0) {
            snprintf(to, size, "%s=%s", variables[i].name, variables[i].value);
            found = true;
        }
    }
    mutex_unlock(&variable_mutex);
    return found;
}
