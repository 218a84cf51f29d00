#include "utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util.h"

static void every_character_is_read_as_written(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        char text[UTF8_LEN_MAX];
        uint32_t read;
        size_t len, n;

        if (code >= 0xd800 && code <= 0xdfff)
            continue;
        n = utf8_encode(code, text);
        if (!utf8_first((struct slice){text, n}, &len, &read) || len != n || read != code)
            fail_msg("U+%04X", code);
        if (utf8_utf16_units((struct slice){text, n}) != (code > 0xffff ? 2U : 1U))
            fail_msg("units of U+%04X", code);
        if (n > 1 && utf8_first((struct slice){text, n - 1}, &len, &read))
            fail_msg("a part of U+%04X", code);
        if (n > 1 && len != n - 1)
            fail_msg("the maximal subpart of U+%04X", code);
    }
}

/* What is wrong, cut into the pieces that one U+FFFD each replaces (Unicode 15, section 3.9). */
static const struct wrong {
    struct slice text;
    size_t pieces[8];
} wrongs[] = {
    {SLICE("\x80"), {1}},
    {SLICE("\xc0\xaf"), {1, 1}},
    {SLICE("\xc1\xbf"), {1, 1}},
    {SLICE("\xe0\x80\xaf"), {1, 1, 1}},
    {SLICE("\xed\xa0\x80"), {1, 1, 1}}, /* a surrogate */
    {SLICE("\xed\xbf\xbf"), {1, 1, 1}},
    {SLICE("\xf4\x90\x80\x80"), {1, 1, 1, 1}}, /* past the end */
    {SLICE("\xf5\x80\x80\x80"), {1, 1, 1, 1}},
    {SLICE("\xf0\x80\x80\x80"), {1, 1, 1, 1}},
    {SLICE("\xf0\x90\x80"), {3}},                              /* cut off */
    {SLICE("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"), {2, 1, 3, 2}}, /* table 3-11 */
    {SLICE("\xff\xfe"), {1, 1}},
    {SLICE("\xe2\x82"), {2}},
    {SLICE("\xc3\xc3"), {1, 1}},
};

static void what_is_wrong_is_cut_by_maximal_subparts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
        struct slice rest = wrongs[i].text;

        for (size_t k = 0; rest.len > 0; k++) {
            uint32_t code;
            size_t len;

            assert_false(utf8_valid(rest));
            assert_false(utf8_first(rest, &len, &code));
            assert_int_equal(code, 0xfffd);
            assert_int_equal(len, wrongs[i].pieces[k]);
            rest = slice_from(rest, len);
        }
    }
}

/* A flaw is found wherever it stands, also behind words of plain ASCII. */
static void validity_does_not_depend_on_the_place(void **state)
{
    char text[64];

    (void)state;
    for (size_t at = 0; at + 3 <= sizeof text; at++) {
        memset(text, 'a', sizeof text);
        assert_true(utf8_valid((struct slice){text, sizeof text}));
        memcpy(text + at, "\xe2\x82\xac", 3);
        assert_true(utf8_valid((struct slice){text, sizeof text}));
        for (size_t len = 0; len <= sizeof text; len++)
            assert_int_equal(utf8_valid((struct slice){text, len}), len <= at || len >= at + 3);
        text[at + 1] = 'a';
        assert_false(utf8_valid((struct slice){text, sizeof text}));
    }
    assert_true(utf8_valid((struct slice){NULL, 0}));
}

static const struct cut {
    const char *name;
    struct slice text;
    size_t max, n;
} cuts[] = {
    {"all fits", SLICE("abc"), 3, 3},
    {"more than all", SLICE("a\xe2\x82\xac"), 100, 4},
    {"ascii", SLICE("abc"), 2, 2},
    {"nothing", SLICE("abc"), 0, 0},
    {"before the euro", SLICE("a\xe2\x82\xac z"), 1, 1},
    {"in the euro, 1", SLICE("a\xe2\x82\xac z"), 2, 1},
    {"in the euro, 2", SLICE("a\xe2\x82\xac z"), 3, 1},
    {"after the euro", SLICE("a\xe2\x82\xac z"), 4, 4},
    {"in four bytes, 1", SLICE("\xf0\x9f\x98\x80!"), 1, 0},
    {"in four bytes, 2", SLICE("\xf0\x9f\x98\x80!"), 2, 0},
    {"in four bytes, 3", SLICE("\xf0\x9f\x98\x80!"), 3, 0},
    {"after four bytes", SLICE("\xf0\x9f\x98\x80!"), 4, 4},
    {"continuations alone", SLICE("\x80\x80\x80\x80\x80\x80"), 4, 4},
    {"a lead cut short by ascii", SLICE("a\xe2\x82 z"), 2, 2},
    {"after a lead cut short", SLICE("a\xe2\x82 z"), 3, 3},
    {"a lead at the end of all", SLICE("a\xe2\x82"), 2, 2},
    {"too short a form", SLICE("\xc0\xaf."), 1, 1},
    {"a continuation too many", SLICE("\xc3\xa4\xa4."), 2, 2},
    {"two too many", SLICE("\xc3\xa4\xa4\xa4."), 3, 3},
    {"empty", SLICE(""), 0, 0},
};

static void a_cut_never_lies_inside_a_character(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++)
        if (utf8_cut(cuts[i].text, cuts[i].max) != cuts[i].n)
            fail_msg("%s: %zu", cuts[i].name, utf8_cut(cuts[i].text, cuts[i].max));
}

/* In valid text both halves are valid, wherever it is cut, and no more is given up than needed. */
static void both_halves_of_valid_text_are_valid(void **state)
{
    struct slice text = SLICE("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xed\x9f\xbfz");

    (void)state;
    for (size_t max = 0; max <= text.len; max++) {
        size_t n = utf8_cut(text, max);

        assert_true(n <= max && max - n < UTF8_LEN_MAX);
        assert_true(utf8_valid(slice_first(text, n)));
        assert_true(utf8_valid(slice_from(text, n)));
        for (size_t more = n + 1; more <= max; more++)
            assert_false(utf8_valid(slice_first(text, more)));
    }
    assert_int_equal(utf8_utf16_units(text), 9);
    assert_int_equal(utf8_utf16_units((struct slice){NULL, 0}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_read_as_written),
        cmocka_unit_test(what_is_wrong_is_cut_by_maximal_subparts),
        cmocka_unit_test(validity_does_not_depend_on_the_place),
        cmocka_unit_test(a_cut_never_lies_inside_a_character),
        cmocka_unit_test(both_halves_of_valid_text_are_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
