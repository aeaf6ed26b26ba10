// Any line at the parser and at the words' expansion, and any pattern at the matcher: everything
// stays within its bounds.
//
// links: kernel/shell/parse.c kernel/shell/match.c kernel/lib/format.c kernel/lib/text.c kernel/lib/string.c tests/host/stubs/panic_abort.c

#include "kernel/shell/match.h"
#include "kernel/shell/parse.h"

#include "fuzz.h"

static const char *value(const char *name, void *arg)
{
    (void)arg;
    return name[0] == 'L' ? "a long value with blanks | and > operators" : NULL;
}

static void check_parse(const struct parse *p, size_t length)
{
    MUST(p->word_count <= PARSE_MAX_WORDS && p->command_count <= PARSE_MAX_COMMANDS &&
         p->pipeline_count <= PARSE_MAX_PIPELINES);
    unsigned commands = 0;
    for (unsigned i = 0; i < p->pipeline_count; i++) {
        MUST(p->pipelines[i].command_count != 0);
        MUST(p->pipelines[i].first_command == commands);
        commands += p->pipelines[i].command_count;
        MUST(p->pipelines[i].join != JOIN_END || i + 1 == p->pipeline_count);
    }
    MUST(commands == p->command_count);
    unsigned words = 0;
    for (unsigned i = 0; i < p->command_count; i++) {
        const struct parse_command *c = &p->commands[i];
        MUST(c->first_word == words && c->word_count != 0);
        words += c->word_count;
        MUST(c->in < 0 || (c->in >= (int)words && c->in < p->word_count));
        MUST(c->out < 0 || (c->out >= (int)words && c->out < p->word_count));
        MUST(c->in < 0 || c->in != c->out);
        words += (c->in >= 0) + (c->out >= 0);
    }
    MUST(words == p->word_count);
    for (unsigned i = 0; i < p->word_count; i++) {
        MUST(p->words[i].length != 0 && p->words[i].at + p->words[i].length <= (int)length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct parse parse;
    char *line = malloc(size + 1);
    memcpy(line, data, size);
    line[size] = '\0';
    const struct parse_values values = {.get = value, .status = 127};
    if (parse_line(line, &parse) == 0) {
        check_parse(&parse, strlen(line));
        for (unsigned i = 0; i < parse.word_count; i++) {
            char to[64];
            bool vanished;
            long length = parse_expand(&parse, i, &values, to, sizeof(to), &vanished);
            MUST(length < (long)sizeof(to) &&
                 (length < 0 || strnlen(to, sizeof(to)) == (size_t)length));
        }
    } else {
        MUST(parse.error && parse.error_at <= strlen(line));
    }
    const char *text = memchr(line, '\n', size);
    if (text && size < 200) {
        line[text - line] = '\0';
        if (!match_check(line)) {
            match_text(line, text + 1, data[0] & 1);
        }
    }
    free(line);
    return 0;
}
