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
        cmocka_unit_test(there_is_an_end_to_it),
        cmocka_unit_test(what_does_not_fit_leaves_no_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
