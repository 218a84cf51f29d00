/* evil -- patterns that are known to take their time, and texts for which they take most.
 *
 * Shared by test_pattern.c, which counts their work, and bench/evil.c, which times it. */
#ifndef EVIL_H
#define EVIL_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "slice.h"

/* A text is `head`, then `body` again and again until it is long enough, then `tail`. */
static const struct evil {
    const char *pattern, *head, *body, *tail;
} evils[] = {
    {"^(a+)+$", "", "a", "!"},
    {"(a+)+$", "", "a", "!"},
    {"^(a|aa)+$", "", "a", "!"},
    {"(a|a)*$", "", "a", "!"},
    {"^(([a-z])+.)+[A-Z]([a-z])+$", "", "a", ""}, /* OWASP: Java class names */
    {"^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}", "", "a",
     "!"}, /* RegExLib */
    {"(.*)*x", "", "a", ""},
    {".*x", "", "a", "\n"},
    {".*.*=.*", "x", "x", ""}, /* Cloudflare, 2 July 2019 */
    {"(?:(?:\"|'|\\]|\\}|\\\\|\\d|(?:nan|infinity|true|false|null|undefined|symbol|math)|`|-|\\+)+"
     "[)]*;?((?:\\s|-|~|!|\\{\\}|\\|\\||\\+)*.*(?:.*=.*)))",
     "x=", "x", ""},          /* the same, as it was */
    {"\\s+$", "a", " ", "a"}, /* Stack Overflow, 20 July 2016 */
    {"[ \\t]+$", "a", " \t", "a"},
    {"(.*)x(.*)y(.*)z(.*)w$", "", "xyz", ""},
    {"^(.*?,){11}P", "", "1,", "x"}, /* regular-expressions.info */
    {"^(.*?,)+?P", "", "1,,", "x"},
    {"(x+x+)+y", "", "x", ""},
    {"([a-z]+)\\1+$", "", "ab", "!"},
    {"(.+)\\1\\1", "", "abcdefghijk", "l"},
    {"^(?:(.+)(.+)(.+)(.+)(.+))+$", "", "a", "\n\n"},
    {"(?=(a+))a*b\\1", "", "a", ""},
    {"(?:a?){30}a{30}b", "", "a", ""},
    {"(a?){50}(a*)*b", "", "a", ""},
    {"[^x]{5000}y", "", "a", ""},
    {"(?:[^x]{50}|[^y]{60}){100}z", "", "a", ""},
    {"(?<=a{200})b*c", "", "a", ""},
    {"\\((?:[^()]++|(?R))*+\\)", "", "(", ""},
    {"(?:\\((?R)*\\)|[ab]+)*c", "", "(ab", ""},
    {"^(\\w+\\s?)*$", "", "word ", "!"},
    {"(\\d+\\.?)+(\\w+\\s*)+:$", "", "12.", "a b "},
    {"<(.|\\n)*?>.*<(.|\\n)*?>$", "<", "a", "> <"},
    {"\"(?:\\\\.|[^\"\\\\])*\"$", "", "\"a\\\"", ""},
    {"^(([^:]+)://)?([^:/]+)(:([0-9]+))?(/.*)*$", "", "/a", "\n!"},
    {"(?:.*?a){12}b", "", "a", ""},
    {"(?i)(x|X|[xX])*y", "", "xX", ""},
    {"\\p{L}*\\p{Lu}*\\p{Ll}*\\d", "", "a\xc3\xa4", ""},
    {"(?:\\X)+x$", "", "e\xcc\x81", ""},
    {"(\\p{L}|\\w)+\\d", "", "\xc3\xa4\xff", ""},
    {"(?(?=.*x)y|.*z)", "", "a", ""},
    {"(?:(?>a+)|b)*?c", "", "ab", ""},
    {"(?:a(?=.*b))*c", "", "a", "b"},

    /* The same sort, for whom PCRE2 cannot see that a letter is missing. */
    {".*[xy]$", "", "a", ""},
    {"[^\\n]*[^\\n]*[xy]$", "", "a", ""},
    {"(.*)*[xy]", "", "a", ""},
    {"(.*)x(.*)y(.*)z(.*)[vw]$", "", "xyz", ""},
    {"^(.*?,){11}[PQ]", "", "1,", "x"},
    {"^(.*?,)+?[PQ]", "", "1,,", "x"},
    {"(x+x+)+[yz]", "", "x", ""},
    {"(?=(a+))a*[bc]\\1", "", "a", ""},
    {"(?:a?){30}a{30}[bc]", "", "a", ""},
    {"(a?){50}(a*)*[bc]", "", "a", ""},
    {"[^x]{5000}[yz]", "", "a", ""},
    {"[^x]{500}[^y]{500}[yz]", "", "a", ""},
    {"(?:[^x]{50}|[^y]{60}){100}[yz]", "", "a", ""},
    {"(?<=a{200})b*[cd]", "", "a", ""},
    {"\\((?:[^()]++|(?R))*+[)\\]]", "", "(", ""},
    {"(?:.*?a){12}[bc]", "", "a", ""},
    {"(?i)(x|X|[xX])*[yz]", "", "xX", ""},
    {"(?:(?>a+)|b)*?[cd]", "", "ab", ""},
    {"(?:a(?=.*b))*[cd]", "", "a", "b"},
    {"\\X*\\X*[xy]$", "", "e\xcc\x81", ""},
    {"(?<!a{100}b)\\p{L}{20,}[^\\p{L}a]", "", "a\xc3\xa4", ""},
    {"(\\w{1,50}){1,50}[xy]$", "", "a", "!"},
    {"([ab]*)([ab]*)\\1\\2[xy]", "", "ab", ""},
    {"(((((((((((((((((((a)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*[bc]", "", "a", ""},
};

/* Gives memory of its own size. */
static char *evil_text(const struct evil *e, size_t size)
{
    size_t head = strlen(e->head), body = strlen(e->body), tail = strlen(e->tail);
    char *text = malloc(size + 1);

    assert(text != NULL && size >= head + body + tail);
    for (size_t i = 0; i < size; i++)
        text[i] =
            i < head ? e->head[i]
                     : (i >= size - tail ? e->tail[i - (size - tail)] : e->body[(i - head) % body]);
    text[size] = '\0';
    return text;
}

#endif
