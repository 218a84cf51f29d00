#include "slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "util.h"

static void a_slice_of_text_has_no_zero(void **state)
{
    (void)state;
    assert_int_equal(SLICE("abc").len, 3);
    assert_int_equal(SLICE("a\0b").len, 3);
    assert_int_equal(slice_of("abc").len, 3);
    assert_int_equal(slice_of("").len, 0);
    assert_int_equal(slice_of(NULL).len, 0);
    assert_null(slice_of(NULL).ptr);
}

static void cutting_keeps_the_bytes(void **state)
{
    struct slice whole = SLICE("kinetail"), none = {NULL, 0};

    (void)state;
    for (size_t n = 0; n <= whole.len; n++) {
        struct slice first = slice_first(whole, n), rest = slice_from(whole, n);

        assert_int_equal(first.len + rest.len, whole.len);
        assert_ptr_equal(first.ptr, whole.ptr);
        assert_ptr_equal(rest.ptr, whole.ptr + n);
        assert_true(slice_starts_with(whole, first));
        assert_true(slice_ends_with(whole, rest));
    }
    assert_int_equal(slice_first(whole, 1000).len, whole.len);

    /* What lies before and behind a slice is not in it, even where it would fit. */
    assert_false(slice_ends_with(slice_from(whole, 4), slice_from(whole, 3)));
    assert_false(slice_starts_with(slice_first(whole, 4), slice_first(whole, 5)));
    assert_null(slice_from(none, 0).ptr);
    assert_int_equal(slice_first(none, 5).len, 0);
}

static const struct story {
    struct slice a, b;
    bool equal, starts, ends; /* what a does with b */
} stories[] = {
    {SLICE(""), SLICE(""), true, true, true},
    {SLICE("a"), SLICE(""), false, true, true},
    {SLICE(""), SLICE("a"), false, false, false},
    {{NULL, 0}, SLICE(""), true, true, true},
    {SLICE("abab"), SLICE("ab"), false, true, true},
    {SLICE("abc"), SLICE("abc"), true, true, true},
    {SLICE("abc"), SLICE("abd"), false, false, false},
    {SLICE("abc"), SLICE("bc"), false, false, true},
    {SLICE("a\0b"), SLICE("a\0c"), false, false, false},
    {SLICE("a\0b"), SLICE("a\0"), false, true, false},
};

static void comparing_counts_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];

        assert_int_equal(slice_equal(s->a, s->b), s->equal);
        assert_int_equal(slice_equal(s->b, s->a), s->equal);
        assert_int_equal(slice_starts_with(s->a, s->b), s->starts);
        assert_int_equal(slice_ends_with(s->a, s->b), s->ends);
    }
}

static void printing_prints_the_bytes(void **state)
{
    char text[16];

    (void)state;
    (void)snprintf(text, sizeof text, "%.*s|%.*s", SLICE_ARG(slice_first(SLICE("abcdef"), 3)),
                   SLICE_ARG(slice_of(NULL)));
    assert_string_equal(text, "abc|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_of_text_has_no_zero),
        cmocka_unit_test(cutting_keeps_the_bytes),
        cmocka_unit_test(comparing_counts_every_byte),
        cmocka_unit_test(printing_prints_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
