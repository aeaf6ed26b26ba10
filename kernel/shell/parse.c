// The grammar of the console, sh's in small:
//
//   line      list [# comment]
//   list      and-or { (';' | '&') and-or } [';' | '&']
//   and-or    pipeline { ('&&' | '||') pipeline }
//   pipeline  command { '|' command }
//   command   { word | '<' word | '>' word | '>>' word }
//   word      pieces without blanks or operators: text, '...', "...", \c, $?, $NAME, ${NAME}
//
// A word that is expanded stays one word, whatever is in it (sh would split it); names of files are
// not matched against patterns. Everything goes into fixed arrays; a line of 1,024 bytes that would
// need more is refused by name.
//
// Context: any; pure.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include "parse.h"

static int parse_fail(struct parse *p, size_t at, const char *error)
{
    p->error = error;
    p->error_at = (unsigned)at;
    return -EINVAL;
}

static bool parse_is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Past the word that begins at `at`; 0 when a quote does not end.
static size_t parse_word_end(const char *line, size_t at)
{
    while (line[at] != '\0' && !strchr(" \t;&|<>\r\n", line[at])) {
        if (line[at] == '\\' && line[at + 1] != '\0') {
            at += 2;
        } else if (line[at] == '\'') {
            const char *end = strchr(line + at + 1, '\'');
            if (!end) {
                return 0;
            }
            at = (size_t)(end - line) + 1;
        } else if (line[at] == '"') {
            for (at++; line[at] != '"'; at++) {
                at += line[at] == '\\' && line[at + 1] != '\0';
                if (line[at] == '\0') {
                    return 0;
                }
            }
            at++;
        } else {
            at++;
        }
    }
    return at;
}

static size_t parse_blanks(const char *line, size_t at)
{
    return at + strspn(line + at, " \t\r\n");
}

static int parse_add_word(struct parse *p, size_t *at)
{
    size_t end = parse_word_end(p->line, *at);
    if (end == 0) {
        return parse_fail(p, *at, "a quote has no end");
    }
    if (p->word_count == PARSE_MAX_WORDS) {
        return parse_fail(p, *at, "too many words, at most 256");
    }
    p->words[p->word_count++] =
        (struct parse_word){.at = (uint16_t)*at, .length = (uint16_t)(end - *at)};
    *at = end;
    return 0;
}

// "2>" in sh; here the number would become an argument, and the command another than the one that
// was meant.
static bool parse_is_numbered(const struct parse *p, const struct parse_command *c, size_t at)
{
    if (p->word_count == c->first_word) {
        return false;
    }
    const struct parse_word *last = &p->words[p->word_count - 1];
    return last->at + last->length == (int)at &&
           strspn(p->line + last->at, "0123456789") >= last->length;
}

static int parse_redirection(struct parse *p, struct parse_command *c, size_t *at)
{
    if (parse_is_numbered(p, c, *at)) {
        return parse_fail(p, *at, "a number before < or > is not supported, there is one output");
    }
    bool in = p->line[*at] == '<';
    bool append = !in && p->line[*at + 1] == '>';
    size_t target = parse_blanks(p->line, *at + 1 + append);
    if (p->line[target] == '\0' || strchr(";&|<>#", p->line[target])) {
        return parse_fail(p, *at, "the name of a file is missing");
    }
    if ((in ? c->in : c->out) >= 0) {
        return parse_fail(p, *at, "redirected twice");
    }
    int error = parse_add_word(p, &target);
    if (error == 0) {
        *(in ? &c->in : &c->out) = (int16_t)(p->word_count - 1);
        c->append = c->append || append;
    }
    *at = target;
    return error;
}

// A command's words shall lie together, and names of files behind them.
static void parse_gather(struct parse *p, struct parse_command *c)
{
    struct parse_word in = {0}, out = {0};
    unsigned kept = c->first_word;
    for (unsigned i = c->first_word; i < p->word_count; i++) {
        if ((int)i == c->in) {
            in = p->words[i];
        } else if ((int)i == c->out) {
            out = p->words[i];
        } else {
            p->words[kept++] = p->words[i];
        }
    }
    c->word_count = (uint16_t)(kept - c->first_word);
    if (c->in >= 0) {
        c->in = (int16_t)kept;
        p->words[kept++] = in;
    }
    if (c->out >= 0) {
        c->out = (int16_t)kept;
        p->words[kept] = out;
    }
}

static int parse_command(struct parse *p, size_t *at)
{
    if (p->command_count == PARSE_MAX_COMMANDS) {
        return parse_fail(p, *at, "too many commands, at most 64");
    }
    struct parse_command *c = &p->commands[p->command_count++];
    *c = (struct parse_command){.first_word = p->word_count, .in = -1, .out = -1};
    size_t start = *at;
    for (;;) {
        *at = parse_blanks(p->line, *at);
        char next = p->line[*at];
        if (next == '\0' || next == '#' || strchr(";&|", next)) {
            break;
        }
        int error =
            next == '<' || next == '>' ? parse_redirection(p, c, at) : parse_add_word(p, at);
        if (error != 0) {
            return error;
        }
    }
    parse_gather(p, c);
    if (c->word_count == 0) {
        return parse_fail(p, start,
                          p->line[start] == '\0' ? "a command is missing at the end"
                                                 : "a command is missing");
    }
    return 0;
}

static int parse_pipeline(struct parse *p, size_t *at)
{
    if (p->pipeline_count == PARSE_MAX_PIPELINES) {
        return parse_fail(p, *at, "too many pipelines, at most 64");
    }
    struct parse_pipeline *line = &p->pipelines[p->pipeline_count++];
    *line = (struct parse_pipeline){.first_command = p->command_count};
    for (;;) {
        int error = parse_command(p, at);
        if (error != 0) {
            return error;
        }
        line->command_count++;
        if (p->line[*at] != '|' || p->line[*at + 1] == '|') {
            return 0;
        }
        (*at)++;
    }
}

static enum parse_join parse_join(const char *line, size_t *at)
{
    char c = line[*at];
    bool twice = c != '\0' && line[*at + 1] == c;
    if (c == '\0' || c == '#') {
        return JOIN_END;
    }
    if (c == ';') {
        (*at)++;
        return JOIN_SEQUENCE;
    }
    *at += 1 + twice;
    return c == '|' ? JOIN_OR : twice ? JOIN_AND : JOIN_BACKGROUND;
}

int parse_line(const char *line, struct parse *p)
{
    p->line = line;
    p->word_count = p->command_count = p->pipeline_count = 0;
    p->error = NULL;
    p->error_at = 0;
    if (strnlen(line, PARSE_MAX_LINE + 1) > PARSE_MAX_LINE) {
        return parse_fail(p, PARSE_MAX_LINE, "the line is longer than 1024 bytes");
    }
    size_t at = parse_blanks(line, 0);
    while (line[at] != '\0' && line[at] != '#') {
        int error = parse_pipeline(p, &at);
        if (error != 0) {
            return error;
        }
        enum parse_join join = parse_join(line, &at);
        p->pipelines[p->pipeline_count - 1].join = join;
        at = parse_blanks(line, at);
        if ((join == JOIN_AND || join == JOIN_OR) && (line[at] == '\0' || line[at] == '#')) {
            return parse_fail(p, at, "a command is missing at the end");
        }
    }
    return 0;
}

// ---- expansion ----------------------------------------------------------------------------------

struct parse_out {
    char *to;
    size_t size, length;
};

static void parse_put(struct parse_out *o, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++, o->length++) {
        if (o->length < o->size) {
            o->to[o->length] = data[i];
        }
    }
}

// What stands behind a '$'; returns how many bytes it took. A '$' that introduces nothing stands
// for itself.
static size_t parse_dollar(const char *s, size_t left, const struct parse_values *values,
                           struct parse_out *o)
{
    char name[32];
    bool braced = left > 1 && s[1] == '{';
    size_t start = braced ? 2 : 1, length = 0;
    if (left > 1 && s[1] == '?') {
        char number[12];
        int digits = snprintf(number, sizeof(number), "%d", values->status);
        parse_put(o, number, (size_t)digits);
        return 2;
    }
    while (start + length < left && parse_is_name(s[start + length])) {
        length++;
    }
    bool complete = !braced || (start + length < left && s[start + length] == '}');
    if (length == 0 || length >= sizeof(name) || !complete) {
        parse_put(o, s, 1);
        return 1;
    }
    memcpy(name, s + start, length);
    name[length] = '\0';
    const char *value = values->get ? values->get(name, values->arg) : NULL;
    if (value) {
        parse_put(o, value, strlen(value));
    }
    return start + length + braced;
}

// Inside "...": returns the bytes up to and with the closing quote.
static size_t parse_double_quoted(const char *s, size_t left, const struct parse_values *values,
                                  struct parse_out *o)
{
    size_t at = 1;
    while (at < left && s[at] != '"') {
        if (s[at] == '$') {
            at += parse_dollar(s + at, left - at, values, o);
            continue;
        }
        if (s[at] == '\\' && at + 1 < left && strchr("\"\\$`", s[at + 1])) {
            at++;
        }
        parse_put(o, s + at++, 1);
    }
    return min(at + 1, left);
}

long parse_expand(const struct parse *p, unsigned word, const struct parse_values *values, char *to,
                  size_t size, bool *vanished)
{
    const char *s = p->line + p->words[word].at;
    size_t left = p->words[word].length;
    struct parse_out o = {.to = to, .size = size};
    bool quoted = false;
    while (left > 0) {
        size_t used = 1;
        if (*s == '\\' && left > 1) {
            quoted = true;
            parse_put(&o, s + 1, 1);
            used = 2;
        } else if (*s == '\'') {
            quoted = true;
            const char *end = memchr(s + 1, '\'', left - 1);
            size_t inside = end ? (size_t)(end - s) - 1 : left - 1;
            parse_put(&o, s + 1, inside);
            used = min(inside + 2, left);
        } else if (*s == '"') {
            quoted = true;
            used = parse_double_quoted(s, left, values, &o);
        } else if (*s == '$') {
            used = parse_dollar(s, left, values, &o);
        } else {
            parse_put(&o, s, 1);
        }
        s += used;
        left -= used;
    }
    *vanished = o.length == 0 && !quoted;
    if (o.length >= size) {
        return -E2BIG;
    }
    to[o.length] = '\0';
    return (long)o.length;
}
