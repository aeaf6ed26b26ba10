// What a line says: pure, tested and fuzzed on the host.
#pragma once

#include <lib/types.h>

enum {
    PARSE_MAX_LINE = 1024,
    PARSE_MAX_WORDS = 256,
    PARSE_MAX_COMMANDS = 64,
    PARSE_MAX_PIPELINES = 64,
};

// A word as it stands in the line: quotes, backslashes and $ are taken away when it is used,
// because $? changes on the way.
struct parse_word {
    uint16_t at, length;
};

struct parse_command {
    uint16_t first_word, word_count;
    int16_t in, out; // words that name files, -1: none
    bool append;     // >>
};

enum parse_join { JOIN_END, JOIN_SEQUENCE, JOIN_AND, JOIN_OR, JOIN_BACKGROUND };

struct parse_pipeline {
    uint16_t first_command, command_count;
    enum parse_join join; // what stands behind it
};

struct parse {
    const char *line;
    uint16_t word_count, command_count, pipeline_count;
    struct parse_word words[PARSE_MAX_WORDS];
    struct parse_command commands[PARSE_MAX_COMMANDS];
    struct parse_pipeline pipelines[PARSE_MAX_PIPELINES];
    const char *error; // what is wrong, when parse_line says -EINVAL
    unsigned error_at; // and where: byte of the line
};

// Takes the line apart; it must live as long as the result. An empty line or a comment has no
// pipelines. 0 or -EINVAL.
int parse_line(const char *line, struct parse *parse);

// Values for $NAME, ${NAME} and $?; NULL: not set.
struct parse_values {
    const char *(*get)(const char *name, void *arg);
    void *arg;
    int status;
};

// Writes the word as a command gets it and returns its length; -E2BIG when it does not fit;
// *vanished: it was unquoted and came to nothing, so it is no argument at all.
long parse_expand(const struct parse *parse, unsigned word, const struct parse_values *values,
                  char *to, size_t size, bool *vanished);
