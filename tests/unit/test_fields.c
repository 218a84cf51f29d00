/* fields: in order, found by name, written as JSON. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "record/fields.h"

static void expect_json(const struct fields *f, const char *json)
{
    struct buf b;

    buf_init(&b, 1000);
    assert_int_equal(fields_append_json(&b, f), 0);
    assert_int_equal(buf_append_char(&b, '\0'), 0);
    assert_string_equal(b.ptr, json);
    buf_done(&b);
}

static void every_type_is_written_as_what_it_is(void **state)
{
    struct fields f;

    (void)state;
    fields_init(&f, 1000);
    expect_json(&f, "{}");
    assert_int_equal(fields_add(&f, SLICE("t"), SLICE("a\"b\n\xff"), FIELD_TEXT), 0);
    assert_int_equal(fields_add(&f, SLICE("n\\"), SLICE("-1.5e3"), FIELD_NUMBER), 0);
    assert_int_equal(fields_add(&f, SLICE("yes"), SLICE("on"), FIELD_TRUE), 0);
    assert_int_equal(fields_add(&f, SLICE("no"), SLICE("off"), FIELD_FALSE), 0);
    assert_int_equal(fields_add(&f, SLICE(""), SLICE("-"), FIELD_NULL), 0);
    assert_int_equal(fields_add(&f, SLICE("j"), SLICE("[1,{}]"), FIELD_JSON), 0);
    expect_json(&f, "{\"t\":\"a\\\"b\\n\xef\xbf\xbd\",\"n\\\\\":-1.5e3,\"yes\":true,\"no\":false,"
                    "\"\":null,\"j\":[1,{}]}");
    fields_reset(&f);
    expect_json(&f, "{}");
    fields_done(&f);
}

static void a_name_is_set_at_its_place_and_removed(void **state)
{
    struct fields f;

    (void)state;
    fields_init(&f, 1000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fields_set(&f, SLICE("a"), SLICE("1"), FIELD_NUMBER), 0);
    assert_int_equal(fields_set(&f, SLICE("b"), SLICE("2"), FIELD_NUMBER), 0);
    assert_int_equal(fields_set(&f, SLICE("c"), SLICE("3"), FIELD_NUMBER), 0);
    assert_int_equal(fields_set(&f, SLICE("a"), SLICE("x"), FIELD_TEXT), 0);
    expect_json(&f, "{\"a\":\"x\",\"b\":2,\"c\":3}");
    fields_remove(&f, fields_find(&f, SLICE("b")));
    expect_json(&f, "{\"a\":\"x\",\"c\":3}");
    assert_null(fields_find(&f, SLICE("b")));
    fields_remove(&f, fields_find(&f, SLICE("c")));
    fields_remove(&f, fields_find(&f, SLICE("a")));
    expect_json(&f, "{}");
    fields_done(&f);
}

/* Few are compared with each other, many go through a table: both ways the same. */
static void of_equal_names_the_last_value_stays_at_the_first_place(void **state)
{
    (void)state;
    for (size_t distinct = 1; distinct < 100; distinct++) {
        char names[100][8], values[200][8];
        struct fields f;

        fields_init(&f, 1000);
        for (size_t i = 0; i < 2 * distinct; i++) {
            size_t which = i < distinct ? i : 2 * distinct - 1 - i; /* once up, once down */
            int n = snprintf(names[which], sizeof names[which], "n%zu", which);
            int v = snprintf(values[i], sizeof values[i], "%zu", i);

            assert_int_equal(fields_add(&f, (struct slice){names[which], (size_t)n},
                                        (struct slice){values[i], (size_t)v},
                                        i < distinct ? FIELD_TEXT : FIELD_NUMBER),
                             0);
        }
        fields_merge(&f);
        assert_int_equal(f.count, distinct);
        for (size_t i = 0; i < distinct; i++) {
            assert_true(slice_equal(f.items[i].name, slice_of(names[i])));
            assert_true(slice_equal(f.items[i].value, slice_of(values[2 * distinct - 1 - i])));
            assert_int_equal(f.items[i].type, FIELD_NUMBER);
        }
        fields_merge(&f); /* nothing more to do */
        assert_int_equal(f.count, distinct);
        fields_done(&f);
    }
}

static void fields_are_added_at_once(void **state)
{
    struct field *added;
    struct fields f;

    (void)state;
    fields_init(&f, 1000);
    assert_int_equal(fields_add(&f, SLICE("a"), SLICE("1"), FIELD_NUMBER), 0);
    assert_int_equal(fields_extend(&f, 2, &added), 0);
    added[0] = (struct field){SLICE("b"), SLICE("2"), FIELD_TEXT};
    added[1] = (struct field){SLICE("c"), SLICE(""), FIELD_NULL};
    expect_json(&f, "{\"a\":1,\"b\":\"2\",\"c\":null}");
    assert_int_equal(fields_extend(&f, 100, &added), 0);
    assert_int_equal(fields_extend(&f, FIELDS_MAX - 103, &added), 0);
    assert_int_equal(fields_extend(&f, 1, &added), -EMSGSIZE);
    assert_int_equal(f.count, FIELDS_MAX);
    fields_done(&f);
}

/* Written in one go or piece by piece, near the ceiling or for what is large: the same. */
static void the_way_it_is_written_does_not_matter(void **state)
{
    static char large[200000];
    struct fields f;

    (void)state;
    fields_init(&f, 1000);
    memset(large, '\n', sizeof large);
    for (size_t len = 0; len < sizeof large; len = 3 * len + 1) {
        struct buf b, tight;

        fields_reset(&f);
        assert_int_equal(fields_add(&f, SLICE("a"), (struct slice){large, len}, FIELD_TEXT), 0);
        assert_int_equal(fields_add(&f, SLICE("b"), SLICE("x"), FIELD_FALSE), 0);
        buf_init(&b, 10 * sizeof large);
        assert_int_equal(fields_append_json(&b, &f), 0);
        assert_int_equal(b.len, 2 * len + strlen("{\"a\":\"\",\"b\":false}"));
        buf_init(&tight, b.len);
        assert_int_equal(fields_append_json(&tight, &f), 0);
        assert_true(slice_equal(buf_slice(&b), buf_slice(&tight)));
        buf_done(&tight);
        buf_init(&tight, b.len - 1);
        assert_int_equal(fields_append_json(&tight, &f), -EMSGSIZE);
        assert_int_equal(tight.len, 0);
        buf_done(&tight);
        buf_done(&b);
    }
    fields_done(&f);
}

static void there_is_an_end_to_it(void **state)
{
    struct fields f;

    (void)state;
    fields_init(&f, 1000);
    for (int i = 0; i < FIELDS_MAX; i++)
        assert_int_equal(fields_add(&f, SLICE("a"), SLICE("1"), FIELD_NUMBER), 0);
    assert_int_equal(fields_add(&f, SLICE("a"), SLICE("1"), FIELD_NUMBER), -EMSGSIZE);
    assert_int_equal(f.count, FIELDS_MAX);
    fields_done(&f);
}

static void what_does_not_fit_leaves_no_half(void **state)
{
    struct fields f;
    struct buf b;

    (void)state;
    fields_init(&f, 1000);
    assert_int_equal(fields_add(&f, SLICE("abc"), SLICE("def"), FIELD_TEXT), 0);
    for (size_t max = 1; max < 14; max++) {
        buf_init(&b, max);
        assert_int_equal(buf_append_char(&b, 'x'), 0);
        assert_int_equal(fields_append_json(&b, &f), max < 14 ? -EMSGSIZE : 0);
        assert_int_equal(b.len, 1);
        buf_done(&b);
    }
    fields_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_written_as_what_it_is),
        cmocka_unit_test(a_name_is_set_at_its_place_and_removed),
        cmocka_unit_test(of_equal_names_the_last_value_stays_at_the_first_place),
        cmocka_unit_test(fields_are_added_at_once),
        cmocka_unit_test(the_way_it_is_written_does_not_matter),
        cmocka_unit_test(there_is_an_end_to_it),
        cmocka_unit_test(what_does_not_fit_leaves_no_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
