// What a line means: how it is taken apart, what is refused, and what its words become.
//
// links: kernel/shell/parse.c kernel/shell/match.c kernel/lib/format.c kernel/lib/text.c kernel/lib/string.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/shell/match.h"
#include "kernel/shell/parse.h"

static struct parse parse;

static const char *value(const char *name, void *arg)
{
    (void)arg;
    return strcmp(name, "HOME") == 0 ? "/root dir" : strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static const struct parse_values values = {.get = value, .status = 42};

static void add_word(char *to, unsigned word)
{
    char text[256];
    bool vanished;
    assert_true(parse_expand(&parse, word, &values, text, sizeof(text), &vanished) >= 0);
    if (!vanished) {
        strcat(to, "[");
        strcat(to, text);
        strcat(to, "]");
    }
}

// The whole of a parsed line as text: [word][word]<[in]>[out] | ... && ...
static const char *meaning(const char *line)
{
    static char to[4096];
    static const char *const joins[] = {"", " ;", " &&", " ||", " &"};
    to[0] = '\0';
    if (parse_line(line, &parse) != 0) {
        snprintf(to, sizeof(to), "%u: %s", parse.error_at, parse.error);
        return to;
    }
    for (unsigned i = 0; i < parse.pipeline_count; i++) {
        const struct parse_pipeline *p = &parse.pipelines[i];
        strcat(to, i > 0 ? " " : "");
        for (unsigned k = 0; k < p->command_count; k++) {
            const struct parse_command *c = &parse.commands[p->first_command + k];
            strcat(to, k > 0 ? " | " : "");
            for (unsigned w = 0; w < c->word_count; w++) {
                add_word(to, c->first_word + w);
            }
            if (c->in >= 0) {
                strcat(to, "<");
                add_word(to, (unsigned)c->in);
            }
            if (c->out >= 0) {
                strcat(to, c->append ? ">>" : ">");
                add_word(to, (unsigned)c->out);
            }
        }
        strcat(to, joins[p->join]);
    }
    return to;
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(meaning(""), "");
    assert_string_equal(meaning("   \t "), "");
    assert_string_equal(meaning("# nothing"), "");
    assert_string_equal(meaning("echo  a\tb "), "[echo][a][b]");
    assert_string_equal(meaning("echo a # b"), "[echo][a]");
    assert_string_equal(meaning("echo a#b"), "[echo][a#b]");
}

static void test_quotes(void **state)
{
    (void)state;
    assert_string_equal(meaning("echo 'a  b' \"c  d\" e\\ f"), "[echo][a  b][c  d][e f]");
    assert_string_equal(meaning("echo 'it'\\''s'"), "[echo][it's]");
    assert_string_equal(meaning("echo '' \"\""), "[echo][][]");
    assert_string_equal(meaning("echo 'a|b;c&d>e<f#g'"), "[echo][a|b;c&d>e<f#g]");
    assert_string_equal(meaning("echo \"a'b\" 'c\"d'"), "[echo][a'b][c\"d]");
    assert_string_equal(meaning("echo \"a\\\"b\\\\c\\d\""), "[echo][a\"b\\c\\d]");
    assert_string_equal(meaning("echo \\\\ \\# \\;"), "[echo][\\][#][;]");
    assert_string_equal(meaning("echo '$?' \\$? \"\\$?\""), "[echo][$?][$?][$?]");
}

static void test_variables(void **state)
{
    (void)state;
    assert_string_equal(meaning("echo $? x$?y \"$?\""), "[echo][42][x42y][42]");
    assert_string_equal(meaning("echo $HOME \"${HOME}s\" $HOMER"), "[echo][/root dir][/root dirs]");
    assert_string_equal(meaning("echo $NOTHING \"$NOTHING\" $EMPTY"), "[echo][]");
    assert_string_equal(meaning("echo $ a$ $% ${ ${x"), "[echo][$][a$][$%][${][${x]");
    assert_string_equal(meaning("$NOTHING"), "");
}

static void test_pipelines_and_lists(void **state)
{
    (void)state;
    assert_string_equal(meaning("a|b | c"), "[a] | [b] | [c]");
    assert_string_equal(meaning("a;b ; c;"), "[a] ; [b] ; [c] ;");
    assert_string_equal(meaning("a&&b||c"), "[a] && [b] || [c]");
    assert_string_equal(meaning("a & b &"), "[a] & [b] &");
    assert_string_equal(meaning("a|b&&c|d&"), "[a] | [b] && [c] | [d] &");
}

static void test_redirections(void **state)
{
    (void)state;
    assert_string_equal(meaning("a > x"), "[a]>[x]");
    assert_string_equal(meaning("a>>x <y b"), "[a][b]<[y]>>[x]");
    assert_string_equal(meaning("> x a b <y"), "[a][b]<[y]>[x]");
    assert_string_equal(meaning("<y a >x | b >'q r'; c"), "[a]<[y]>[x] | [b]>[q r] ; [c]");
}

static void test_what_is_refused(void **state)
{
    (void)state;
    assert_string_equal(meaning("echo 'a"), "5: a quote has no end");
    assert_string_equal(meaning("echo \"a\\\""), "5: a quote has no end");
    assert_string_equal(meaning("| a"), "0: a command is missing");
    assert_string_equal(meaning("a | | b"), "3: a command is missing");
    assert_string_equal(meaning("a |"), "3: a command is missing at the end");
    assert_string_equal(meaning("a &&"), "4: a command is missing at the end");
    assert_string_equal(meaning("a || # b"), "5: a command is missing at the end");
    assert_string_equal(meaning(";;"), "0: a command is missing");
    assert_string_equal(meaning("a ;; b"), "3: a command is missing");
    assert_string_equal(meaning("a >"), "2: the name of a file is missing");
    assert_string_equal(meaning("a > ; b"), "2: the name of a file is missing");
    assert_string_equal(meaning("a >>> b"), "2: the name of a file is missing");
    assert_string_equal(meaning("a > b > c"), "6: redirected twice");
    assert_string_equal(meaning("> b"), "0: a command is missing");
    assert_string_equal(meaning("a 2> b"),
                        "3: a number before < or > is not supported, there is one output");
    assert_string_equal(meaning("echo 2 > b"), "[echo][2]>[b]");
}

static void test_limits(void **state)
{
    (void)state;
    char line[PARSE_MAX_LINE + 2];
    memset(line, 'a', sizeof(line));
    line[PARSE_MAX_LINE + 1] = '\0';
    assert_string_equal(meaning(line), "1024: the line is longer than 1024 bytes");
    line[PARSE_MAX_LINE] = '\0';
    assert_int_equal(parse_line(line, &parse), 0);
    for (int i = 0; i < PARSE_MAX_LINE; i += 2) {
        line[i] = 'a';
        line[i + 1] = ' ';
    }
    assert_int_not_equal(parse_line(line, &parse), 0);
    assert_string_equal(parse.error, "too many words, at most 256");
    line[2 * PARSE_MAX_WORDS] = '\0';
    assert_int_equal(parse_line(line, &parse), 0);
    assert_int_equal(parse.word_count, PARSE_MAX_WORDS);
    for (int i = 0; i < 2 * PARSE_MAX_WORDS; i += 2) {
        line[i + 1] = '|';
    }
    assert_int_not_equal(parse_line(line, &parse), 0);
    assert_string_equal(parse.error, "too many commands, at most 64");
}

static void test_a_word_that_does_not_fit(void **state)
{
    (void)state;
    char text[5];
    bool vanished;
    assert_int_equal(parse_line("abcd abcde $HOME", &parse), 0);
    assert_int_equal(parse_expand(&parse, 0, &values, text, sizeof(text), &vanished), 4);
    assert_true(parse_expand(&parse, 1, &values, text, sizeof(text), &vanished) < 0);
    assert_true(parse_expand(&parse, 2, &values, text, sizeof(text), &vanished) < 0);
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool found;
    } cases[] = {
        {"", "", true},           {"b", "abc", true},        {"d", "abc", false},
        {"^a", "abc", true},      {"^b", "abc", false},      {"c$", "abc", true},
        {"b$", "abc", false},     {"^$", "", true},          {"^$", "a", false},
        {"a.c", "abc", true},     {"a.c", "ac", false},      {"ab*c", "ac", true},
        {"ab*c", "abbbc", true},  {"^a.*c$", "axxc", true},  {"[a-c]x", "bx", true},
        {"[^a-c]x", "bx", false}, {"[]x]", "]", true},       {"[^]x]", "]", false},
        {"a\\.c", "abc", false},  {"a\\.c", "a.c", true},    {"\\$", "a$", true},
        {"[0-9]*$", "12", true},  {"^[0-9]*$", "1a", false}, {"*", "a*", true},
        {"ABC", "abc", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_null(match_check(cases[i].pattern));
        if (match_text(cases[i].pattern, cases[i].text, false) != cases[i].found) {
            fail_msg("%s in %s", cases[i].pattern, cases[i].text);
        }
    }
    assert_true(match_text("A[B-C]C", "abc", true));
    assert_non_null(match_check("[a"));
    assert_non_null(match_check("a\\"));
    // A pattern that would take for ever is answered "no" within its budget.
    assert_false(
        match_text("a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_variables),    cmocka_unit_test(test_pipelines_and_lists),
        cmocka_unit_test(test_redirections), cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_a_word_that_does_not_fit),
        cmocka_unit_test(test_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
