#include "record/java_regex.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "buf.h"
#include "util.h"

enum { TRANSLATION_MAX = 100000, GROUPS_MAX = 20 };

/* Compared with what Pattern.matches of OpenJDK 17 says, which is the same but for \R\n. */
static const struct {
    const char *pattern, *yes[7], *no[7];
} stories[] = {
    {"", {""}, {"a", "\n"}},
    {"a|ab", {"a", "ab"}, {"b", ""}},
    {"a.c",
     {"abc",
      "a\xc3\xa9"
      "c",
      "a\xf0\x9f\x98\x80"
      "c",
      "a\x0b"
      "c"},
     {"a\nc", "a\rc",
      "a\xc2\x85"
      "c",
      "a\xe2\x80\xa8"
      "c",
      "a\xe2\x80\xa9"
      "c",
      "ac"}},
    {"(?d)a.c",
     {"a\rc", "a\xc2\x85"
              "c"},
     {"a\nc"}},
    {"(?s)a.c", {"a\nc", "a\rc"}, {"ac"}},
    {"(?s)a(?-s).c", {"abc"}, {"a\nc"}},
    {"(?s:a.)b.", {"a\nbc"}, {"a\nb\n"}},
    {"(a(?i)b|c)d", {"aBd", "abd", "Cd", "cd"}, {"Abd", "abD"}},

    /* Lines and their ends. */
    {"a$\\s*", {"a", "a\n", "a\r\n", "a\r"}, {"a\n\n", "a ", "ab"}},
    {"a\\Z(?s).*", {"a", "a\n", "a\r\n", "a\xe2\x80\xa8"}, {"a\n\n", "ab"}},
    {"a\\z\\s*", {"a"}, {"a\n"}},
    {"(?d)a$(?s).*", {"a", "a\n"}, {"a\r", "a\r\n"}},
    {"(?m)a$\\s^b", {"a\nb", "a\rb"}, {"a\r\nb", "ab"}},
    {"(?m)a$\\r?\\n^b", {"a\nb", "a\r\nb"}, {"a\rb"}},
    {"(?m)a\\r$\\n", {NULL}, {"a\r\n"}},
    {"(?m)a\\n^", {NULL}, {"a\n"}}, /* not at the end */
    {"(?md)a\\n^\\rb$", {"a\n\rb"}, {"a\r\rb"}},
    {"(?m)a\\x{2028}^b",
     {"a\xe2\x80\xa8"
      "b"},
     {"a\nb"}},
    {"^a^b", {NULL}, {"ab"}},
    {"\\Aa", {"a"}, {"ba"}},
    {"a\\Rb",
     {"a\nb", "a\r\nb",
      "a\x0b"
      "b",
      "a\xc2\x85"
      "b"},
     {"ab", "a\n\nb"}},
    {"\\R\\n", {"\n\n", "\r\n\n"}, {"\r\n"}}, /* Java 8; a later one would give back */

    /* ASCII, unless Java says otherwise. */
    {"\\d\\s\\w",
     {"1 a", "1\x0b_"},
     {"\xd9\xa1 a",
      "1\xc2\xa0"
      "a",
      "1 \xc3\xa9"}},
    {"\\D\\S\\W", {"a1 ", "\xd9\xa1\xc2\xa0\xc3\xa9"}, {"1a ", "a a", "aaa"}},
    {"[\\D][\\S][\\W]", {"a1 ", "\xd9\xa1\xc2\xa0\xc3\xa9"}, {"1a ", "aaa"}},
    {"[^\\p{L}\\W]", {"1", "_"}, {"a", " ", "\xcc\x81"}},
    {"[^\\p{L}\\D][^\\p{L}\\S]", {"1 "}, {"\xcc\x81 ", "1\xcc\x81", "a "}},
    {"\\h\\v", {" \n", "\xc2\xa0\r", "\t\xe2\x80\xa8"}, {"\n ", "aa"}},
    {"[\\h\\v]", {" ", "\n"}, {"a"}},
    {"\\H\\V", {"ab"}, {" b", "a\n"}},
    {"(?i)ks", {"KS", "Ks", "kS"}, {"\xe2\x84\xaas", "k\xc5\xbf"}},
    {"(?i)\xc3\xa9", {"\xc3\xa9"}, {"\xc3\x89"}},
    {"(?iu)ks", {"KS", "\xe2\x84\xaa\xc5\xbf"}, {"kk"}},
    {"(?iu)i", {"i", "I", "\xc4\xb0", "\xc4\xb1"}, {"\xc3\xac"}},
    {"(?i)[a-c]x", {"BX", "ax"}, {"dx"}},
    {"(?i)[^a]", {"b", "B", "\xc3\xa9"}, {"a", "A"}},
    {"(?i)[X-b]+", {"xyzabXYZAB[`"}, {"c", "w"}},
    {"(?iu)[j-l]", {"K", "\xe2\x84\xaa"}, {"\xc5\xbf"}},
    {"(?u)\xc3\xa9", {"\xc3\xa9"}, {"\xc3\x89"}},
    {".*\\bb\\b.*",
     {"b", "a b c", "a-b"},
     {"ab", "bc",
      "\xc3\xa9"
      "b",
      "b\xc3\xa9", "b_"}},
    {"a\\B.*", {"ab", "a\xc3\xa9", "a\xcc\x81"}, {"a", "a b"}},
    {"e\xcc\x81\\b.*",
     {"e\xcc\x81", "e\xcc\x81 "},
     {"e\xcc\x81"
      "e"}},

    /* Properties. */
    {"\\p{Alpha}\\p{Lower}\\p{Upper}",
     {"aaA"},
     {"\xc3\xa9"
      "aA",
      "aAa"}},
    {"\\p{L}\\pL\\p{IsL}\\p{IsAlphabetic}", {"a\xc3\xa9\xd1\x8f\xe4\xb8\xad"}, {"a1aa"}},
    {"\\P{L}\\PL", {"1-"}, {"a-"}},
    {"\\p{Lu}\\p{IsLatin}\\p{IsCyrillic}\\p{script=Han}",
     {"\xc3\x89"
      "a\xd1\x8f\xe4\xb8\xad"},
     {"aaaa"}},
    {"\\p{Punct}+", {"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}, {"a", " ", "\xc2\xa7"}},
    {"\\p{Alnum}\\p{Blank}\\p{Cntrl}\\p{Digit}\\p{Graph}\\p{Print}\\p{Space}\\p{XDigit}\\p{ASCII}",
     {"a \x01"
      "1! \nF~"},
     {"a\n\x01"
      "1! \nF~"}},
    {"\\P{Alnum}\\P{Space}[\\P{Punct}]",
     {"-aa", "\xc3\xa9\xc3\xa9\xc3\xa9"},
     {"aaa", "- a", "-a-"}},

    /* Escapes. */
    {"\\t\\n\\r\\f\\a\\e", {"\t\n\r\f\a\033"}, {"tnrfae"}},
    {"\\x41\\x{1F600}\\u0042\\uD83D\\uDE00",
     {"A\xf0\x9f\x98\x80"
      "B\xf0\x9f\x98\x80"},
     {"AB"}},
    {"\\0101\\07\\0477", {"A\a'7"}, {"A\a"}},
    {"\\cA\\ca", {"\x01!"}, {"\x01\x01"}}, /* c ^ 64, whatever it is */
    {"\\Qa.b*\\E+", {"a.b*", "a.b***"}, {"aab"}},
    {"\\Q(\\E1\\Q1", {"(11"}, {"(1"}},
    {"\\.\\-\\:\\/\\ \\\xc3\xa9", {".-:/ \xc3\xa9"}, {"a-:/ \xc3\xa9"}},
    {"a]b}c", {"a]b}c"}, {"abc"}},
    {"a-b&&c,d=e!f<g>h:i", {"a-b&&c,d=e!f<g>h:i"}, {"a"}},

    /* Classes. */
    {"[abc]+", {"cab"}, {"d", ""}},
    {"[^abc]+", {"def", "\n", "\xc3\xa9"}, {"a", "da"}},
    {"[]a]+", {"]a"}, {"["}},
    {"[^]a]+", {"[b"}, {"]", "a"}},
    {"[a-]+[-b]+[+--]+", {"a-b-+,-"}, {"b-b-+"}},
    {"[a^]+", {"a^"}, {"b"}},
    {"[&a]+[a&]+", {"&aa&"}, {"b&"}},
    {"[.$|(){}*+?]+", {".$|(){}*+?"}, {"a"}},
    {"[\\]\\[\\\\\\^\\-]+", {"][\\^-"}, {"a"}},
    {"[[:alpha:]]+", {"alph:"}, {"z", "[", "]"}}, /* no POSIX class, but a class in a class */
    {"[a-d[m-p]]+", {"abmp"}, {"e", "q"}},
    {"[a-d[m-p]x-z]+", {"dmx"}, {"e"}},
    {"[a-z&&[^aeiou]]+", {"bcd", "xyz"}, {"a", "be", "B", "\xc3\xa9"}},
    {"[a-z&&[def]]", {"d", "f"}, {"a", "g"}},
    {"[a-z&&def]", {"d", "f"}, {"a", "g"}},
    {"[a-z&&[^bc]&&[^m-p]]", {"a", "q"}, {"b", "n", "A"}},
    {"[a-z&&[^m-p]&&[^bc]]{2}", {"aq"}, {"ab", "nq"}},
    {"[\\w&&[^\\d_]]+", {"aZ"}, {"1", "_", "a1"}},
    {"[\\p{L}&&[^\\p{Lu}]]+", {"a\xc3\xa9"}, {"A", "\xc3\x89", "1"}},
    {"[a-z&&[b-d][x-z]]+", {"bcxz"}, {"a", "e"}},
    {"[[a-c]&&[b-d]]", {"b", "c"}, {"a", "d"}},
    {"(?i)[a-z&&[^b]]", {"A", "a"}, {"b", "B"}},
    {"[\\x41-\\x{43}\\u0044-F]+", {"ABCDEF"}, {"G"}},
    {"[\xc3\xa4-\xc3\xbc]+", {"\xc3\xa9"}, {"a"}},
    {"[\\d-z]+", {"1-z"}, {"a"}},
    {"[ #]", {" ", "#"}, {"a"}},

    /* Groups. */
    {"(?<year>\\d{4})-\\k<year>", {"2024-2024"}, {"2024-2025"}},
    {"(a)(b)?\\2", {NULL}, {"a", "ab"}}, /* a group that is not set matches nothing */
    {"(.)\\11", {"aa1"}, {"aa"}},
    {"(?:(a)|b)*c", {"abc", "c"}, {"ac1"}},
    {"(?=a)\\w+(?!b)(?<=c)(?<!d)", {"abc"}, {"bbc", "abd"}},
    {"(?<=ab|c)d|..d|.d", {"abd", "cd"}, {"d"}},
    {"(?>a+)ab|x", {"x"}, {"aab"}},
    {"a*+a|b?+b|c++c|[de]{1,2}+e", {NULL}, {"aa", "b", "cc", "ee"}},
    {"a*?b+?c??d{1,2}?", {"bd", "aabbcdd"}, {"a"}},
    {"a{2}{3}", {"aa"}, {"aaaaaa"}}, /* three times nothing */
    {"{2}", {""}, {"a"}},
    {"a{0}b{1,}c{2,3}", {"bcc", "bbccc"}, {"abcc", "bc"}},
    {"^*a$+", {"a"}, {"b"}},

    /* Comments. */
    {"(?x) a b # c\n d \\  [ e f ]", {"abd e", "abd f"}, {"abd  ", "a b d e"}},
    {"(?x) a + + b", {"aab"}, {"aa b"}},
    {"(?x)a#b\rc", {"ac"}, {"a"}},
    {"(?xd)a#b\rc", {"a"}, {"ac"}},
    {"(?x)\\Q # \\E", {" # "}, {"#"}},
    {"(?x)a(?-x) b", {"a b"}, {"ab"}},
    {"a b#c", {"a b#c"}, {"ab"}},
    {"(?)a", {"a"}, {"b"}},
};

static struct pattern *translated(const char *java, unsigned flags)
{
    struct pattern_error e;
    struct pattern *p = NULL;
    struct buf to;

    buf_init(&to, TRANSLATION_MAX);
    if (java_regex_translate(slice_of(java), &to, &e) != 0)
        fail_msg("'%s': %s at %zu", java, e.text, e.offset);
    if (pattern_new(buf_slice(&to), PATTERN_UTF | flags, &p, &e) != 0)
        fail_msg("'%s': '%.*s': %s", java, SLICE_ARG(buf_slice(&to)), e.text);
    buf_done(&to);
    return p;
}

static void a_translation_means_the_same(void **state)
{
    static const unsigned ways[] = {0, PATTERN_NO_JIT};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories) * ARRAY_LEN(ways); i++) {
        size_t k = i / ARRAY_LEN(ways);
        struct pattern *p;

        p = translated(stories[k].pattern, PATTERN_WHOLE | ways[i % ARRAY_LEN(ways)]);
        for (size_t n = 0; n < ARRAY_LEN(stories[k].yes) && stories[k].yes[n] != NULL; n++)
            if (pattern_match(p, slice_of(stories[k].yes[n]), NULL) != 1)
                fail_msg("'%s' should match '%s'", stories[k].pattern, stories[k].yes[n]);
        for (size_t n = 0; n < ARRAY_LEN(stories[k].no) && stories[k].no[n] != NULL; n++)
            if (pattern_match(p, slice_of(stories[k].no[n]), NULL) != 0)
                fail_msg("'%s' should not match '%s'", stories[k].pattern, stories[k].no[n]);
        pattern_free(p);
    }
}

static void groups_keep_their_numbers_and_names(void **state)
{
    struct pattern *p =
        translated("(?i:(a)|(?<bee>b+))([a-z&&[^c]])(?:d)?(?<n1>e)?", PATTERN_WHOLE);
    struct slice groups[GROUPS_MAX];

    (void)state;
    assert_int_equal(pattern_group_count(p), 4);
    assert_int_equal(pattern_group_find(p, SLICE("bee")), 2);
    assert_int_equal(pattern_group_find(p, SLICE("n1")), 4);
    assert_int_equal(pattern_match(p, SLICE("bBz"), groups), 1);
    assert_null(groups[1].ptr);
    assert_true(slice_equal(groups[2], SLICE("bB")));
    assert_true(slice_equal(groups[3], SLICE("z")));
    assert_null(groups[4].ptr);
    pattern_free(p);
}

static const struct {
    const char *pattern;
    int error;
    size_t offset;
    const char *word; /* of the sentence */
} refusals[] = {
    /* Java throws. */
    {"*a", -EINVAL, 0, "'*'"},
    {"+", -EINVAL, 0, "'+'"},
    {"a|?", -EINVAL, 2, "'?'"},
    {"a**", -EINVAL, 2, "'*'"},
    {"a+++", -EINVAL, 3, "'+'"},
    {"(?i)*", -EINVAL, 4, "'*'"},
    {"(a", -EINVAL, 2, "')'"},
    {"((a)", -EINVAL, 4, "')'"},
    {"a)", -EINVAL, 1, "'('"},
    {"[a", -EINVAL, 2, "']'"},
    {"[a[b]", -EINVAL, 5, "']'"},
    {"[]", -EINVAL, 2, "']'"},
    {"[a-\\d]", -EINVAL, 4, "range"},
    {"[z-a]", -EINVAL, 4, "range"},
    {"a\\", -EINVAL, 2, "backslash"},
    {"a{", -EINVAL, 1, "number"},
    {"a{x}", -EINVAL, 1, "number"},
    {"a{,2}", -EINVAL, 1, "number"},
    {"a{2", -EINVAL, 3, "'}'"},
    {"a{3,2}", -EINVAL, 6, "repetition"},
    {"a{2,3,4}", -EINVAL, 5, "repetition"},
    {"\\y", -EINVAL, 1, "\\y"},
    {"[\\b]", -EINVAL, 2, "\\b"},
    {"a\\E", -EINVAL, 2, "\\E"},
    {"\\x4", -EINVAL, 2, "\\x"},
    {"\\x4\\Q1\\E", -EINVAL, 2, "\\x"},
    {"\\x{110000}", -EINVAL, 8, "\\x"},
    {"\\u12", -EINVAL, 2, "\\u"},
    {"\\08", -EINVAL, 2, "\\0"},
    {"\\c", -EINVAL, 2, "\\c"},
    {"\\p{L", -EINVAL, 4, "}"},
    {"\\p{}", -EINVAL, 3, "\\p{}"},
    {"\\p", -EINVAL, 2, "\\p"},
    {"(?<1a>b)", -EINVAL, 3, "letter"},
    {"(?<a_b>c)", -EINVAL, 4, "'>'"},
    {"(?<a>b)(?<a>c)", -EINVAL, 12, "'a'"},
    {"\\k<a>(?<a>b)", -EINVAL, 5, "'a'"},
    {"\\ka", -EINVAL, 2, "'<'"},
    {"(?P<a>b)", -EINVAL, 2, "group"},
    {"(?<*a)", -EINVAL, 3, "(?<"},
    {"(?#a)", -EINVAL, 2, "group"},
    {"(?i", -EINVAL, 3, "group"},
    {"(*UTF)a", -EINVAL, 1, "'*'"},
    {"a\xff", -EINVAL, 1, "UTF-8"},

    /* Java takes it, PCRE2 cannot say it, or Javas differ. */
    {"a\\Gb", -ENOTSUP, 2, "\\G"},
    {"\\X", -ENOTSUP, 1, "\\X"},
    {"\\N{DIGIT ONE}", -ENOTSUP, 1, "\\N"},
    {"(?U)\\w", -ENOTSUP, 2, "(?U)"},
    {"(?ic:a)", -ENOTSUP, 3, "(?c)"},
    {"(a\\1)", -ENOTSUP, 4, "reference"},
    {"(a)\\2", -ENOTSUP, 5, "reference"},
    {"(?i)(a)\\1", -ENOTSUP, 9, "reference"},
    {"(?i)\\p{Lower}", -ENOTSUP, 13, "\\p{Lower}"},
    {"\\p{InGreek}", -ENOTSUP, 11, "\\p{InGreek}"},
    {"\\p{javaLowerCase}", -ENOTSUP, 17, "\\p{javaLowerCase}"},
    {"(?iu)\xc3\xa9", -ENOTSUP, 7, "ASCII"},
    {"[^a[b]]", -ENOTSUP, 6, "negated"},
    {"[^a-z&&[def]]", -ENOTSUP, 12, "negated"},
    {"[a-z&&]", -ENOTSUP, 6, "&&"},
    {"[&&a]", -ENOTSUP, 3, "&&"},
    {"[a-z&&[b]c]", -ENOTSUP, 10, "&&"},
    {"[a&&[b]&c]", -ENOTSUP, 7, "&&"},
    {"(?x)[a#]", -EINVAL, 8, "']'"},
    {"(?<=a{1,3})b", -ENOTSUP, 0, "lookbehind"},
    {"(?<=a+)b", -ENOTSUP, 0, "lookbehind"},
    {"(?=(a))b", -ENOTSUP, 4, "lookaround"},
    {"(?>(a))b", -ENOTSUP, 4, "atomic"},
    {"(a)*+b", -ENOTSUP, 4, "possessive"},
    {"(a*)*", -ENOTSUP, 4, "empty"},
    {"((?:a|b?)){2}", -ENOTSUP, 10, "empty"},
    {"a{65536}", -ENOTSUP, 6, "65535"},
    {"\\uD83D", -ENOTSUP, 6, "surrogate"},
    {"[\\v-z]", -ENOTSUP, 2, "\\v"},
    {"(?x)( ?:a)", -ENOTSUP, 6, "space"},
};

static void what_cannot_be_said_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct pattern_error e;
        struct buf to;
        int r;

        buf_init(&to, TRANSLATION_MAX);
        assert_int_equal(buf_append(&to, SLICE("kept")), 0);
        r = java_regex_translate(slice_of(refusals[i].pattern), &to, &e);
        if (r != refusals[i].error)
            fail_msg("'%s': %d, '%.*s' %s", refusals[i].pattern, r, SLICE_ARG(buf_slice(&to)),
                     e.text);
        if (e.offset != refusals[i].offset)
            fail_msg("'%s': %s at %zu", refusals[i].pattern, e.text, e.offset);
        if (strstr(e.text, refusals[i].word) == NULL)
            fail_msg("'%s': %s", refusals[i].pattern, e.text);
        assert_true(slice_equal(buf_slice(&to), SLICE("kept")));
        buf_done(&to);
    }
}

static void depth_is_bounded(void **state)
{
    enum { DEEP = 100000 };
    static char deep[DEEP];
    struct pattern_error e;
    struct buf to;

    (void)state;
    buf_init(&to, TRANSLATION_MAX);
    memset(deep, '(', sizeof deep);
    assert_int_equal(java_regex_translate((struct slice){deep, DEEP}, &to, &e), -ENOTSUP);
    memset(deep, '[', sizeof deep);
    assert_int_equal(java_regex_translate((struct slice){deep, DEEP}, &to, &e), -ENOTSUP);
    assert_int_equal(java_regex_translate((struct slice){NULL, 0}, &to, &e), 0);
    buf_done(&to);

    buf_init(&to, 6);
    assert_int_equal(java_regex_translate(SLICE("abcdef"), &to, &e), -EMSGSIZE);
    assert_int_equal(to.len, 0);
    buf_done(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_translation_means_the_same),
        cmocka_unit_test(groups_keep_their_numbers_and_names),
        cmocka_unit_test(what_cannot_be_said_is_refused),
        cmocka_unit_test(depth_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
