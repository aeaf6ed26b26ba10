// A matcher for grep's basic patterns, by trying. Only '*' has to try more than one way; the ways
// that one star leaves are tried from the longest to the shortest, so a pattern of n stars takes at
// most length to the n steps. A budget of steps ends what a person would not wait for: the answer
// is then "no".
//
// Context: any; pure.
#include <lib/string.h>
#include "match.h"

enum { MATCH_STEPS = 200000, MATCH_DEPTH = 64 };

struct match {
    bool ignore_case;
    unsigned steps, depth;
};

static char match_fold(const struct match *m, char c)
{
    return m->ignore_case && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

// Length of the pattern's first element: "a", ".", "\x", "[...]".
static size_t match_element(const char *pattern)
{
    if (pattern[0] == '\\' && pattern[1] != '\0') {
        return 2;
    }
    if (pattern[0] == '[') {
        size_t at = 1 + (pattern[1] == '^');
        at += pattern[at] == ']'; // a ']' that comes first is meant as itself
        while (pattern[at] != '\0' && pattern[at] != ']') {
            at++;
        }
        return at + (pattern[at] == ']');
    }
    return 1;
}

static bool match_set(const struct match *m, const char *set, size_t length, char c)
{
    bool negated = set[1] == '^', found = false;
    size_t at = 1u + negated, end = length - 1;
    c = match_fold(m, c);
    while (at < end) {
        char first = match_fold(m, set[at]), last = first;
        if (at + 2 < end && set[at + 1] == '-') {
            last = match_fold(m, set[at + 2]);
            at += 2;
        }
        at++;
        found = found || (c >= first && c <= last);
    }
    return found != negated;
}

static bool match_one(const struct match *m, const char *element, size_t length, char c)
{
    if (c == '\0') {
        return false;
    }
    if (element[0] == '[' && length > 1) {
        return match_set(m, element, length, c);
    }
    if (element[0] == '\\' && length == 2) {
        return match_fold(m, element[1]) == match_fold(m, c);
    }
    return element[0] == '.' || match_fold(m, element[0]) == match_fold(m, c);
}

static bool match_here(struct match *m, const char *pattern, const char *text)
{
    while (*pattern != '\0') {
        if (m->steps == 0) {
            return false;
        }
        m->steps--;
        size_t length = match_element(pattern);
        if (pattern[length] == '*') {
            size_t count = 0;
            while (match_one(m, pattern, length, text[count])) {
                count++;
            }
            if (m->depth == MATCH_DEPTH) {
                return false;
            }
            m->depth++;
            bool found = false;
            for (; !found && m->steps != 0; count--) {
                found = match_here(m, pattern + length + 1, text + count);
                if (count == 0) {
                    break;
                }
            }
            m->depth--;
            return found;
        }
        if (pattern[0] == '$' && pattern[1] == '\0') {
            return *text == '\0';
        }
        if (!match_one(m, pattern, length, *text)) {
            return false;
        }
        pattern += length;
        text++;
    }
    return true;
}

bool match_text(const char *pattern, const char *text, bool ignore_case)
{
    struct match m = {.ignore_case = ignore_case, .steps = MATCH_STEPS};
    if (*pattern == '^') {
        return match_here(&m, pattern + 1, text);
    }
    do {
        if (match_here(&m, pattern, text)) {
            return true;
        }
    } while (*text++ != '\0' && m.steps != 0);
    return false;
}

const char *match_check(const char *pattern)
{
    unsigned stars = 0;
    while (*pattern != '\0') {
        size_t length = match_element(pattern);
        if (pattern[0] == '[' && (length < 3 || pattern[length - 1] != ']')) {
            return "a [ has no ]";
        }
        if (pattern[0] == '\\' && length == 1) {
            return "it ends with a backslash";
        }
        pattern += length;
        if (*pattern == '*') {
            stars++;
            pattern++;
        }
    }
    return stars > MATCH_DEPTH ? "too many stars" : NULL;
}
